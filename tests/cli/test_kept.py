"""Files with keys: whoever changes them, they stay their owner's, and no change is lost."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from a2a_events import limits
from a2a_events.bindings.identity.api_keys import parse
from a2a_events.cli import kept
from a2a_events.cli.outcome import Failure
from a2a_events.signing.keys import signing_keys
from tests.cli.commands import run_here

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


@pytest.fixture
def shared() -> Generator[Path]:
    """A folder in which everybody may write, as tmp_path is not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def lines(content: bytes) -> list[str]:
    return content.decode().splitlines()


def content_of(found: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in found).encode()


def owner(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid, found.st_mode & 0o777


def test_a_key_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    assert run_here("api-key", "new", "--file", str(path), "--subject", "ci") == 0
    assert owner(path)[2] == 0o600
    path.chmod(0o640)
    assert run_here("api-key", "new", "--file", str(path), "--subject", "ci") == 0
    assert owner(path)[2] == 0o640


@as_root
def test_a_key_that_root_revokes_is_gone_for_the_gateway_s_user(shared: Path) -> None:
    path = shared / "keys.jsonl"
    assert run_here("api-key", "new", "--file", str(path), "--subject", "ci") == 0
    os.chown(path, NOBODY, NOBODY)
    (key,) = parse(path.read_bytes())
    assert run_here("api-key", "revoke", "--file", str(path), key) == 0
    assert owner(path) == (NOBODY, NOBODY, 0o600)
    os.seteuid(NOBODY)
    try:
        assert parse(path.read_bytes()) == {}
    finally:
        os.seteuid(0)


@as_root
def test_card_keys_that_root_changes_stay_the_gateway_s(shared: Path) -> None:
    path = shared / "keys.json"
    assert run_here("card", "keygen", "--file", str(path), "--kid", "one") == 0
    os.chown(path, NOBODY, NOBODY)
    assert run_here("card", "keygen", "--file", str(path), "--kid", "two") == 0
    assert run_here("card", "drop", "--file", str(path), "one") == 0
    assert owner(path) == (NOBODY, NOBODY, 0o600)
    assert [key.kid for key in signing_keys(path.read_bytes())] == ["two"]


@as_root
def test_a_file_that_would_become_somebody_else_s_is_left_alone(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared / "keys.jsonl"
    assert run_here("api-key", "new", "--file", str(path), "--subject", "ci") == 0
    path.chmod(0o644)
    before = path.read_bytes()
    (key,) = parse(before)
    capsys.readouterr()
    os.seteuid(NOBODY)
    try:
        assert run_here("api-key", "revoke", "--file", str(path), key) == 1
    finally:
        os.seteuid(0)
    said = capsys.readouterr()
    assert "revoked" not in said.out
    assert "user 0" in said.err
    assert path.read_bytes() == before
    assert owner(path) == (0, 0, 0o644)
    assert [file.name for file in shared.iterdir()] == ["keys.jsonl"], "nothing is left behind"


def test_a_link_leads_to_the_changed_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path, link = tmp_path / "real" / "keys.jsonl", tmp_path / "keys.jsonl"
    link.symlink_to(path)
    assert run_here("api-key", "new", "--file", str(link), "--subject", "ci") == 0
    (key,) = parse(path.read_bytes())
    assert run_here("api-key", "revoke", "--file", str(link), key) == 0
    assert link.is_symlink()
    assert path.read_bytes() == b""
    assert [file.name for file in path.parent.iterdir()] == ["keys.jsonl"]


def test_changes_at_once_are_all_kept(tmp_path: Path) -> None:
    path, people = tmp_path / "list", 8
    together = Barrier(people)

    def add(name: str) -> None:
        together.wait()
        with kept.changed(path, lines, content_of, missing_is_empty=True) as found:
            found.append(name)

    names = [f"{number}" for number in range(people)]
    with ThreadPoolExecutor(people) as threads:
        list(threads.map(add, names))
    assert sorted(lines(path.read_bytes())) == names


def test_whoever_waits_too_long_for_another_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(limits, "KEY_FILE_LOCK_SECONDS", 0.0)
    path = tmp_path / "keys.jsonl"
    with kept.changed(path, lines, content_of, missing_is_empty=True) as found:
        found.append("# ours")
        assert run_here("api-key", "new", "--file", str(path), "--subject", "ci") == 1
        assert "another command" in capsys.readouterr().err
    assert path.read_bytes() == b"# ours\n"
    assert run_here("api-key", "new", "--file", str(path), "--subject", "ci") == 0


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("a\n")

    def fail() -> None:
        with kept.changed(path, lines, content_of) as found:
            found.clear()
            raise Failure("no")

    with pytest.raises(Failure, match="no"):
        fail()
    assert path.read_text() == "a\n"
    with pytest.raises(Failure, match="there is no file"), kept.changed(tmp_path / "none", lines, content_of):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["list"]
