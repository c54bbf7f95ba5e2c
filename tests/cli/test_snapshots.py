"""What commands about timelines print, byte for byte, of one recorded task (``tests/cli/recording.py``).

``UPDATE_SNAPSHOTS=1 pytest tests/cli/test_snapshots.py`` writes the files anew: read what ``git diff`` says of them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from a2a_events.cli import source
from tests.cli.commands import run_here
from tests.cli.terminal import COLUMNS, terminal

SNAPSHOTS = Path(__file__).parent / "snapshots"
RECORDED = Path(__file__).parent.parent / "bundles" / "report.bundle.jsonl"
FILE = "report.bundle.jsonl"

PIPED = {
    "timeline": ("timeline", FILE),
    "timeline-json": ("timeline", FILE, "-o", "json", "--until", "3"),
    "timeline-compact": ("timeline", FILE, "--compact"),
    "timeline-table": ("timeline", FILE, "-o", "table"),
    "timeline-mermaid": ("timeline", FILE, "-o", "mermaid"),
    "timeline-markdown": ("timeline", FILE, "-o", "markdown"),
    "timeline-markdown-filtered": ("timeline", FILE, "-o", "markdown", "--attempt", "3"),
    "show": ("show", FILE),
    "show-first": ("show", f"{FILE}@1"),
    "show-internal": ("show", f"{FILE}@12", "--internal"),
    "show-text": ("show", f"{FILE}@17", "-o", "text"),
    "diff": ("diff", FILE, "9", "14"),
    "diff-nothing": ("diff", FILE, "9", "9"),
    "diff-text": ("diff", FILE, "0", "44", "-o", "text"),
    "export-redacted": ("export", FILE, "--redact-content", "-o", "-"),
    "export-redacted-pattern": ("export", FILE, "--redact", r"\w+\.csv", "-o", "-"),
}
SHOWN = {
    "timeline-terminal": ("timeline", FILE),
    "timeline-compact-terminal": ("timeline", FILE, "--compact"),
    "timeline-states-terminal": ("timeline", FILE, "--state", "failed", "--state", "input-required"),
    "timeline-public-terminal": ("timeline", FILE, "--kind", "public", "--from", "36"),
    "timeline-nothing-terminal": ("timeline", FILE, "--text", "nobody says this"),
    "show-terminal": ("show", f"{FILE}@12"),
    "show-internal-terminal": ("show", FILE, "--internal"),
    "diff-terminal": ("diff", FILE, "12", "44"),
}
REFUSED = {
    "zero": ("show", f"{FILE}@0"),
    "beyond": ("show", f"{FILE}@45"),
    "no-number": ("show", f"{FILE}@twelve"),
    "negative": ("show", f"{FILE}@-1"),
    "superscript": ("show", f"{FILE}@²"),
    "diff-backwards": ("diff", FILE, "14", "9"),
    "diff-beyond": ("diff", FILE, "9", "45"),
    "diff-no-number": ("diff", FILE, "9", "end"),
    "unknown-kind": ("timeline", FILE, "--kind", "turnclaim"),
    "unknown-state": ("timeline", FILE, "--state", "dead"),
    "follow-file": ("timeline", FILE, "--follow"),
    "follow-drawing": ("timeline", FILE, "--follow", "-o", "mermaid"),
    "neither": ("show", "no-such-file@3"),
    "no-bundle": ("timeline", "other"),
    "cut": ("timeline", "cut"),
    "changed": ("import", "changed"),
    "newer": ("import", "newer"),
    "no-file": ("import", "no-such-file"),
    "fork-file": ("fork", f"{FILE}@3"),
    "fork-nowhere": ("fork", "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"),
    "bad-pattern": ("export", FILE, "--redact", "("),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle, and what is left of it when somebody was careless."""
    shutil.copy(RECORDED, tmp_path / FILE)
    content = RECORDED.read_bytes()
    (tmp_path / "other").write_text("{}\n")
    (tmp_path / "cut").write_bytes(content[:3000])
    (tmp_path / "changed").write_bytes(content.replace(b"harvest", b"winter!", 1))
    (tmp_path / "newer").write_bytes(content.replace(b'"bundle":1', b'"bundle":2', 1))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source, "program", lambda: "a2a-events", raising=False)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    return tmp_path


def matches(name: str, text: str) -> None:
    """Compare with the snapshot, or write it. Escapes are shown as ``␛``, so that it can be read."""
    path, shown = SNAPSHOTS / f"{name}.txt", text.replace("\x1b", "␛")
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown, encoding="utf-8")
    assert path.exists(), f"there is no {path.name}: UPDATE_SNAPSHOTS=1 makes it"
    assert shown == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PIPED)
def test_on_a_pipe(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_here(*PIPED[name]) == 0
    out, err = capfd.readouterr()
    assert not err
    matches(name, out)


@pytest.mark.parametrize("name", SHOWN)
def test_on_a_terminal(name: str) -> None:
    with terminal() as shown:
        assert run_here(*SHOWN[name]) == 0
    matches(name, shown.text)


@pytest.mark.parametrize("name", SHOWN)
def test_without_colour_a_terminal_gets_the_same_text(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with terminal() as shown:
        assert run_here(*SHOWN[name]) == 0
    assert "\x1b[3" not in shown.text
    matches(f"{name}-plain", shown.text)


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_is_wrong(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_here(*REFUSED[name])
    out, err = capsys.readouterr()
    assert not out
    matches(f"refused-{name}", f"exit code {code}\n{err}")


def test_every_snapshot_belongs_to_a_test() -> None:
    names = {*PIPED, *SHOWN, *(f"{name}-plain" for name in SHOWN), *(f"refused-{name}" for name in REFUSED)}
    assert {path.stem for path in SNAPSHOTS.iterdir()} == names
