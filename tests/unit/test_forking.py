"""A service that tests fork is what it would be if it were executed."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from a2a_events.testing import eventually
from a2a_events.testing.deployment import Command, Launch, Started, execute
from tests import forking

SAYS = """
import json, os, sys, time

def main():
    ours = [name for name in sys.modules if name.startswith("a2a_events")]
    said = {"argv": sys.argv, "command": sys.orig_argv[1:], "path": sys.path[0], "ours": ours, "here": os.getcwd()}
    said |= {"session": os.getsid(0) == os.getpid(), "given": os.environ.get("GIVEN"), "kept": "KEPT" in os.environ}
    print(json.dumps(said), flush=True)
    print("and an error", file=sys.stderr, flush=True)
    if os.environ["GIVEN"] == "stay":
        time.sleep(60)
    sys.exit(3)
"""
LAUNCHES: list[Launch] = [execute, forking.launch]

pytestmark = pytest.mark.processes


def start(launch: Launch, folder: Path, given: str) -> Started:
    (folder / "says.py").write_text(SAYS)
    environment = {"GIVEN": given, "PYTHONDONTWRITEBYTECODE": "1"}
    return launch(Command(sys.executable, "says"), environment, folder, folder / "log")


@pytest.mark.parametrize("launch", LAUNCHES)
def test_a_process_has_all_of_its_own(launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "no")
    process = start(launch, tmp_path, "go")
    assert process.wait() == 3
    assert process.poll() == 3

    said, error = (tmp_path / "log").read_text().splitlines()
    assert error == "and an error"
    assert json.loads(said) == {
        "argv": ["-c"],
        "command": ["-c", "from says import main; main()"],
        "path": "",
        "ours": [],
        "here": str(tmp_path),
        "session": True,
        "given": "go",
        "kept": False,
    }


@pytest.mark.parametrize("launch", LAUNCHES)
async def test_a_process_is_killed_and_says_by_what(launch: Launch, tmp_path: Path) -> None:
    process = start(launch, tmp_path, "stay")
    log = tmp_path / "log"
    await eventually(lambda: "error" in log.read_text(), what="a line in its log")
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
    process.kill()
    process.send_signal(signal.SIGTERM)  # to one that has ended: nothing
