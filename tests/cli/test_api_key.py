"""``api-key``: what the file holds, and what is shown once."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from a2a_events.bindings.identity.api_keys import ApiKeys, parse
from a2a_events.bindings.identity.port import Presented, Scope
from tests.cli.commands import run_here


def made(path: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run_here("api-key", "new", "--file", str(path), *arguments) == 0
    said = capsys.readouterr()
    assert "only time" in said.err
    return said.out.strip()


async def who(path: Path, key: str) -> tuple[str, str | None, frozenset[Scope]]:
    found = await ApiKeys(path).authenticate(Presented(lambda _: [key]))
    return found.subject, found.tenant, found.scopes


async def test_a_key_is_shown_once_and_its_hash_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys.jsonl"
    key = made(path, capsys, "--subject", "ci", "--tenant", "acme", "--days", "90", "--note", "the build")
    assert re.fullmatch(r"a2ak_[a-z2-7]{12}\.[A-Za-z0-9_-]{43}", key)
    assert key.partition(".")[2] not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert await who(path, key) == ("ci", "acme", frozenset({Scope.READ, Scope.WRITE}))
    (line,) = parse(path.read_bytes()).values()
    assert line.expires is not None
    assert abs(line.expires - time.time() - 90 * 86400) < 60
    second = made(path, capsys, "--subject", "ops", "--scope", "admin")
    assert (await who(path, second))[2] == {Scope.ADMIN}
    assert (await who(path, key))[0] == "ci", "the first one is still there"


async def test_a_rotated_key_holds_on_for_a_while(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys.jsonl"
    old = made(path, capsys, "--subject", "ci", "--tenant", "acme", "--scope", "read")
    (line,) = parse(path.read_bytes()).values()
    assert run_here("api-key", "rotate", "--file", str(path), line.id, "--keep-days", "2") == 0
    new = capsys.readouterr().out.strip()
    assert new != old
    assert await who(path, new) == await who(path, old) == ("ci", "acme", frozenset({Scope.READ}))
    ending, fresh = parse(path.read_bytes()).values()
    assert ending.expires is not None
    assert abs(ending.expires - time.time() - 2 * 86400) < 60
    assert fresh.expires is None


def test_a_key_that_ends_is_not_rotated_into_one_for_ever(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys.jsonl"
    made(path, capsys, "--subject", "ci", "--days", "90")
    before = path.read_bytes()
    (line,) = parse(before).values()
    rotate = ("api-key", "rotate", "--file", str(path), line.id)
    assert run_here(*rotate) == 2
    said = capsys.readouterr()
    assert "--days" in said.err
    assert said.out == ""
    assert run_here(*rotate, "--days", "30", "--for-ever") == 2
    assert path.read_bytes() == before
    assert run_here(*rotate, "--days", "30") == 0
    assert run_here(*rotate, "--for-ever") == 0
    _, limited, unlimited = parse(path.read_bytes()).values()
    assert limited.expires is not None
    assert abs(limited.expires - time.time() - 30 * 86400) < 60
    assert unlimited.expires is None


def test_a_revoked_key_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys.jsonl"
    made(path, capsys, "--subject", "ci")
    (line,) = parse(path.read_bytes()).values()
    assert run_here("api-key", "list", "--file", str(path)) == 0
    assert f"{line.id}  ci  read,write  for ever" in capsys.readouterr().out
    assert run_here("api-key", "revoke", "--file", str(path), line.id) == 0
    assert parse(path.read_bytes()) == {}
    assert run_here("api-key", "revoke", "--file", str(path), line.id) == 1
    assert "there is no key" in capsys.readouterr().err


def test_a_file_that_is_none_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys.jsonl"
    assert run_here("api-key", "list", "--file", str(path)) == 1
    path.write_text("something else\n")
    assert run_here("api-key", "new", "--file", str(path), "--subject", "ci") == 1
    assert "line 1" in capsys.readouterr().err
    assert path.read_text() == "something else\n"
    assert [file.name for file in tmp_path.iterdir()] == ["keys.jsonl"], "nothing is left behind"
