"""Every example runs with the one command that its page names, offline, and prints what the page says it prints."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from a2a_events.settings import PREFIX

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NAMES = sorted(main.parent.name for main in EXAMPLES.glob("*/__main__.py"))
OFFLINE = Path(__file__).with_name("offline.py")
ANYTHING = "…"
"""In the output on a page: what differs from run to run."""


@pytest.mark.integration
@pytest.mark.processes
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", NAMES)
async def test_an_example_prints_what_its_page_says(name: str, tmp_path: Path) -> None:
    command, expected = shown(name)
    assert command == f"$ python examples/{name}"
    code, output = await run(EXAMPLES / name, tmp_path)
    assert code == 0, output
    printed = "".join(f"{line.rstrip()}\n" for line in output.splitlines())
    assert re.fullmatch(pattern(expected), printed), f"the page says:\n{expected}\nand it printed:\n{printed}"
    assert os.listdir(tmp_path) == []  # noqa: PTH208 -- nothing waits for it


async def test_there_is_no_network_for_examples() -> None:
    asks = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"  # an address that nobody has
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(OFFLINE), sys.executable, "-c", asks, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if b"timed out" in said:
        pytest.skip("this system gives no network namespace: examples are run with its network")
    assert b"Network is unreachable" in said


def test_every_example_is_in_the_table() -> None:
    table = (EXAMPLES / "README.md").read_text()
    assert sorted(re.findall(r"^\| \[([\w-]+)\]\(\1\) \|", table, re.MULTILINE)) == sorted(
        page.parent.name for page in EXAMPLES.glob("*/README.md")
    )
    for name in NAMES:
        assert f"| `python examples/{name}` |" in table


def shown(name: str) -> tuple[str, str]:
    """The command on an example's page, and what it prints."""
    page = (EXAMPLES / name / "README.md").read_text()
    found = re.search(r"^```console\n(\$ .*)\n((?:.*\n)*?)```$", page, re.MULTILINE)
    assert found is not None, f"the page of {name} has no ```console block"
    return found[1], found[2]


def pattern(expected: str) -> str:
    return ".*?".join(re.escape(piece) for piece in expected.split(ANYTHING))


async def run(example: Path, folder: Path) -> tuple[int, str]:
    """Run an example as its page says, from a folder of its own; exit code and output."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(OFFLINE),
        sys.executable,
        str(example),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={**inherited, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        output, _ = await process.communicate()
    except BaseException:
        process.send_signal(signal.SIGINT)  # it stops what it has started
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, output.decode()
