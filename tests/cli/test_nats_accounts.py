"""``nats-accounts``: keys that are made once, limits, what is refused; ``test_account_isolation`` has the rest."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import nats
import nkeys
import pytest

from a2a_events.log.jetstream.permissions import ROLES
from a2a_events.services import provisioner
from a2a_events.services.nats_server import NatsServer, binary
from a2a_events.settings import Settings
from tests.cli.commands import run_here


def printed(capsys: pytest.CaptureFixture[str], folder: Path, *more: str) -> str:
    assert run_here("nats-accounts", "--shards", "1", "--keys", str(folder), *more) == 0
    return capsys.readouterr().out


def test_each_tenant_has_an_account_with_a_user_for_each_role(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(capsys, tmp_path, "--tenant", "acme", "--tenant", "globex", "--storage-gib", "2")
    accounts = dict(re.findall(r"^  TENANT_(\w+) \{\n(.*?)^  \}", out, re.DOTALL | re.MULTILINE))
    assert set(accounts) == {"acme", "globex"}
    for tenant, account in accounts.items():
        assert "max_file: 2147483648" in account
        assert "max_streams: 8" in account
        for role in ROLES:
            seed = (tmp_path / tenant / f"{role}.nk").read_bytes()
            public = bytes(nkeys.from_seed(bytearray(seed)).public_key).decode()
            assert f"{{ nkey: {public}, permissions: $A2A_{role.upper()} }} # {role}" in account
            assert seed.decode() not in out
    assert len(set(re.findall(r"nkey: (\w+)", out))) == 2 * len(ROLES)
    assert "exports" not in out
    assert "imports" not in out
    assert {file.stat().st_mode & 0o077 for file in tmp_path.rglob("*.nk")} == {0}, "others may read it"


def test_nats_server_takes_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.conf").write_text(printed(capsys, tmp_path / "keys", "--tenant", "acme", "--agent", "greet"))
    checked = subprocess.run([binary(), "-t", "-c", str(tmp_path / "a.conf")], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_a_tenant_that_is_added_changes_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = printed(capsys, tmp_path, "--tenant", "acme")
    both = printed(capsys, tmp_path, "--tenant", "acme", "--tenant", "globex")
    assert set(re.findall(r"nkey: (\w+)", one)) < set(re.findall(r"nkey: (\w+)", both))


def test_a_tenant_with_keys_that_is_left_out_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, tmp_path, "--tenant", "acme", "--tenant", "globex", "--tenant", "initech")
    (tmp_path / "notes").mkdir()
    command = ("nats-accounts", "--shards", "1", "--keys", str(tmp_path))
    assert run_here(*command, "--tenant", "globex") == 0
    said = capsys.readouterr()
    assert "acme, initech" in said.err
    assert "cut off" in said.err
    assert "globex" not in said.err
    assert "notes" not in said.err
    assert "acme" not in said.out
    assert run_here(*command, "--tenant", "acme", "--tenant", "globex", "--tenant", "initech") == 0
    assert capsys.readouterr().err == ""


def test_a_key_that_others_may_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, tmp_path, "--tenant", "acme")
    (tmp_path / "acme" / "worker.nk").chmod(0o644)
    assert run_here("nats-accounts", "--shards", "1", "--keys", str(tmp_path), "--tenant", "acme") == 0
    said = capsys.readouterr().err
    assert f"{tmp_path / 'acme' / 'worker.nk'} may be read by others" in said
    assert "gateway.nk" not in said


@pytest.mark.parametrize(
    "wrong",
    [("--tenant", "a b"), ("--tenant", "../acme"), ("--tenant", "Acme"), ("--tenant", ""), ("--tenant", "-a"),
     ("--tenant", "acme", "--agent", "a.>"), ("--tenant", "acme", "--storage-gib", "0"), ()],
)  # fmt: skip
def test_what_is_no_name_is_refused_and_nothing_is_made(
    wrong: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here("nats-accounts", "--keys", str(tmp_path / "keys"), *wrong) == 2
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"SUAAAA", b"\xff\xfe", nkeys.encode_seed(b"0" * 32, 0)])
def test_a_file_that_holds_no_user_s_key_is_named_and_left_alone(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "acme" / "gateway.nk"
    file.parent.mkdir()
    file.write_bytes(content)
    assert run_here("nats-accounts", "--tenant", "acme", "--keys", str(tmp_path)) == 1
    assert str(file) in capsys.readouterr().err
    assert file.read_bytes() == content


def test_an_owner_is_of_a_tenant_that_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("nats-accounts", "--keys", str(tmp_path), "--tenant", "acme", "--owner", "globex") == 2
    assert "--owner" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert "# owner" not in printed(capsys, tmp_path, "--tenant", "acme")
    assert not (tmp_path / "acme" / "owner.nk").exists()


@pytest.mark.integration
async def test_an_owner_removes_all_of_a_tenant_and_nothing_of_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, disk = tmp_path / "keys", tmp_path / "nats" / "jetstream"
    both = ("--tenant", "acme", "--tenant", "globex")
    server = NatsServer(disk.parent, sync="2m", more=printed(capsys, keys, *both, "--owner", "acme"))
    try:
        await server.start()
        for tenant in ("acme", "globex"):
            credentials = str(keys / tenant / "provisioner.nk")
            await provisioner.run(Settings(nats=server.url, nats_credentials=credentials, shards=1))
        kept = sorted(path.name for path in (disk / "TENANT_globex" / "streams").iterdir())

        owner = await nats.connect(server.url, nkeys_seed=str(keys / "acme" / "owner.nk"))
        made = await owner.jetstream().streams_info()
        assert sorted(each.config.name or "" for each in made) == kept, "of its own account"
        for each in made:
            await owner.jetstream().delete_stream(each.config.name or "")
        await owner.close()

        await server.stop()
        server.clean()
        server = NatsServer(disk.parent, sync="2m", more=printed(capsys, keys, "--tenant", "globex"))
        await server.start()
        assert [path.name for path in disk.iterdir() if path.name.startswith("TENANT_")] == ["TENANT_globex"]
        assert sorted(path.name for path in (disk / "TENANT_globex" / "streams").iterdir()) == kept
    finally:
        await server.stop()
        server.clean()
