"""The image of the Dockerfile: built, and run as Kubernetes runs it.

``A2A_EVENTS_TEST_PYTHON_IMAGE`` names the base where the Dockerfile's own cannot be pulled.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from a2a_events.client import Client, accumulate
from a2a_events.model import Task, TaskState
from a2a_events.services.nats_server import NatsServer
from a2a_events.testing.waiting import eventually, free_port

ROOT = Path(__file__).parents[2]
BASE = os.environ.get("A2A_EVENTS_TEST_PYTHON_IMAGE", "python:3.13-slim")
BUILD_SECONDS = 900
START_SECONDS = 60
ADDED_BYTES = 200 * 1024 * 1024
"""What the image may have over its base: 137 MB when this was written."""
HARDENED = (
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--network",
    "host",
)

pytestmark = pytest.mark.timeout(BUILD_SECONDS + 180)


def attempted(*arguments: str, timeout_seconds: float = 120) -> subprocess.CompletedProcess[str]:
    program = shutil.which("docker")
    if program is None:
        pytest.skip("Docker is not at hand")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=timeout_seconds, check=False)


def docker(*arguments: str, timeout_seconds: float = 120) -> str:
    done = attempted(*arguments, timeout_seconds=timeout_seconds)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    if attempted("version").returncode:
        pytest.skip("Docker is not at hand")
    if attempted("image", "inspect", BASE).returncode and attempted("pull", BASE).returncode:
        pytest.skip(f"there is no image {BASE}: name one with Python in A2A_EVENTS_TEST_PYTHON_IMAGE")
    name = f"a2a-events:test-{uuid.uuid4().hex[:8]}"
    docker(
        *("build", "--network", "host", "--build-arg", f"PYTHON_IMAGE={BASE}", "--build-arg", "COMMIT=abc1234"),
        *("--tag", name, str(ROOT)),
        timeout_seconds=BUILD_SECONDS,
    )
    yield name
    docker("image", "rm", "--force", name)


@pytest.fixture
async def broker() -> AsyncIterator[NatsServer]:
    server = NatsServer()
    await server.start()
    yield server
    await server.stop()
    server.clean()


def shell(image: str, command: str) -> str:
    return docker("run", "--rm", *HARDENED, "--entrypoint", "sh", image, "-c", command)


def test_nobody_in_it_is_root(image: str) -> None:
    assert int(shell(image, "id -u")) > 10_000
    assert docker("image", "inspect", "--format", "{{.Config.User}}", image) == "10001:10001"


def test_nothing_in_it_builds_or_installs(image: str) -> None:
    assert shell(image, "for tool in cc gcc g++ make; do command -v $tool; done; true") == ""
    installed = {line.partition("-")[0] for line in shell(image, "ls /app/lib/python3*/site-packages").splitlines()}
    assert "a2a_events" in installed
    assert not installed & {"pip", "setuptools", "hatchling", "wheel"}


def test_it_has_what_a_deployment_needs_and_no_broker(image: str) -> None:
    assert shell(image, "python -c 'import a2a_events, grpc, cryptography, nkeys, opentelemetry.sdk'") == ""
    assert shell(image, "command -v nats-server || true") == ""


def test_it_adds_little_to_its_base(image: str) -> None:
    sizes = [int(docker("image", "inspect", "--format", "{{.Size}}", one)) for one in (image, BASE)]
    assert sizes[0] - sizes[1] < ADDED_BYTES


def test_it_writes_nothing_to_its_own_file_system(image: str) -> None:
    # Bytecode is there already, or each start would compile everything anew.
    assert shell(image, "find /app -name '*.pyc' -path '*a2a_events*' | head -1")
    name = f"a2a-events-test-{uuid.uuid4().hex[:8]}"
    docker("run", "--name", name, image, "gateway", "--help")
    try:
        assert docker("diff", name) == ""
    finally:
        docker("rm", "--force", name)


def test_it_says_what_it_was_built_of(image: str) -> None:
    assert shell(image, "echo $A2A_EVENTS_COMMIT") == "abc1234"


@contextlib.contextmanager
def running(image: str, broker: NatsServer, *command: str) -> Iterator[str]:
    """A service as a container, hardened as in a pod."""
    name = f"a2a-events-test-{uuid.uuid4().hex[:8]}"
    settings = ("--env", f"A2A_EVENTS_NATS={broker.url}", "--env", "A2A_EVENTS_LOG_FORMAT=json")
    docker("run", "--detach", "--name", name, *HARDENED, *settings, image, *command)
    try:
        yield name
    finally:
        docker("rm", "--force", name)


async def test_a_message_goes_all_the_way_through_containers_and_they_stop_when_asked(
    image: str, broker: NatsServer
) -> None:
    docker("run", "--rm", *HARDENED, "--env", f"A2A_EVENTS_NATS={broker.url}", image, "provision")
    port = free_port()
    with (
        running(image, broker, "gateway", "--port", str(port)) as gateway,
        running(image, broker, "worker", "--agent", "a2a_events.agents:echo") as worker,
        running(image, broker, "notifier") as notifier,
    ):
        task: Task | None = None
        async with Client([f"http://127.0.0.1:{port}"]) as client:
            await eventually(lambda: shown(port), timeout_seconds=START_SECONDS, what="the card")
            async with client.stream("through containers") as updates:
                async for update in updates:
                    task = accumulate(task, update.response)
        assert task is not None
        assert task.status.state is TaskState.COMPLETED
        for service in (gateway, worker, notifier):
            docker("stop", "--time", "60", service)
            assert docker("inspect", "--format", "{{.State.ExitCode}}", service) == "0", docker("logs", service)


def shown(port: int) -> bool:
    """Whether the gateway serves the card that the worker announced."""
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        asked.request("GET", "/.well-known/agent-card.json")
        return asked.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        asked.close()
