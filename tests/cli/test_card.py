"""``card``: keys, signed cards, and who is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from a2a_events.signing.algorithms import ALGORITHMS
from a2a_events.signing.keys import new_key, signing_keys
from tests.cli.commands import run_here

CARD = {
    "name": "Geographer",
    "description": "Knows where things are.",
    "version": "1.2",
    "supportedInterfaces": [{"url": "https://a.example", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
    "capabilities": {},
    "defaultInputModes": ["text/plain"],
    "defaultOutputModes": ["text/plain"],
    "skills": [],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "card.json").write_text(json.dumps(CARD))
    return tmp_path


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command that must succeed prints."""
    assert run_here("card", *arguments) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    return json.loads(out) if out.startswith("{") else out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    assert run_here("card", *arguments) == code
    return capsys.readouterr().err


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_card_is_signed_and_believed(folder: Path, capsys: pytest.CaptureFixture[str], algorithm: str) -> None:
    public = ran(capsys, "keygen", "--file", "keys.json", "--alg", algorithm)
    assert algorithm == public["alg"]
    assert "d" not in public
    assert (folder / "keys.json").stat().st_mode & 0o077 == 0
    shown = ran(capsys, "show", "--file", "keys.json")
    assert {"keys": [public]} == shown
    (folder / "trusted.json").write_text(json.dumps(shown))
    card = ran(capsys, "sign", "--file", "keys.json", "card.json")
    assert CARD == {name: each for name, each in card.items() if name != "signatures"}
    (folder / "signed.json").write_text(json.dumps(card))
    good = ran(capsys, "verify", "signed.json", "--keys", "trusted.json")
    assert "good: Geographer 1.2 at https://a.example\n" == good
    (folder / "signed.json").write_text(json.dumps(card).replace("https://a.", "https://b."))
    said = refused(capsys, "verify", "signed.json", "--keys", "trusted.json")
    assert "changed after it was signed" in said
    assert "is not signed, and this client" in refused(capsys, "verify", "card.json", "--keys", "trusted.json")


def test_keys_come_and_go(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran(capsys, "keygen", "--file", "keys.json", "--kid", "one", "--days", "2")
    ran(capsys, "keygen", "--file", "keys.json", "--kid", "two", "--alg", "ES256")
    one, two = signing_keys((folder / "keys.json").read_bytes())
    assert ("one", "two", None) == (one.kid, two.kid, two.ends)
    assert one.ends is not None
    assert "already" in refused(capsys, "keygen", "--file", "keys.json", "--kid", "two")
    assert 2 == len({json.dumps(s) for s in ran(capsys, "sign", "--file", "keys.json", "card.json")["signatures"]}) / 2
    ran(capsys, "drop", "--file", "keys.json", "one")
    (left,) = signing_keys((folder / "keys.json").read_bytes())
    assert "two" == left.kid
    assert "no key 'one'" in refused(capsys, "drop", "--file", "keys.json", "one")
    assert "the only key" in refused(capsys, "drop", "--file", "keys.json", "two")
    assert {"card.json", "keys.json"} == {file.name for file in folder.iterdir()}, "nothing is left behind"


def test_what_is_no_key_or_no_card_is_said_to_be_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no file" in refused(capsys, "show", "--file", "none.json")
    (folder / "keys.json").write_text("something else")
    assert "neither PEM nor JSON" in refused(capsys, "keygen", "--file", "keys.json")
    assert "something else" == (folder / "keys.json").read_text()
    ran(capsys, "keygen", "--file", "good.json")
    assert "private key" in refused(capsys, "verify", "card.json", "--keys", "good.json", code=2)
    assert "no keys are trusted" in refused(capsys, "verify", "card.json", code=2)
    (folder / "card.json").write_text('{"name":"a","name":"b"}')
    assert "is there twice" in refused(capsys, "sign", "--file", "good.json", "card.json")


def test_a_pem_stays_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pem = new_key("ES256").loaded.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    assert "a PEM" in refused(capsys, "keygen", "--file", "key.pem")
    assert pem == (folder / "key.pem").read_bytes()
    assert "ES256" == ran(capsys, "show", "--file", "key.pem")["keys"][0]["alg"]


def test_the_setting_of_gateways_which_is_a_list_names_no_file_here(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A2A_EVENTS_CARD_KEYS", "mykid=key.pem,other.json")
    assert "--file" in refused(capsys, "keygen", code=2)
    assert {"card.json"} == {file.name for file in folder.iterdir()}


def test_keys_are_said_to_be_at_an_https_address_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran(capsys, "keygen", "--file", "keys.json")
    for jku in ("http://a.example/keys", "file:///etc/keys", "keys.json", "https://"):
        assert "--jku" in refused(capsys, "sign", "--file", "keys.json", "card.json", "--jku", jku, code=2)
    ran(capsys, "sign", "--file", "keys.json", "card.json", "--jku", "https://a.example/keys")


@pytest.mark.parametrize("command", ["keygen", "show", "sign", "verify", "drop"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("card", command, "--help") == 0
    assert f"a2a-events card {command} " in capsys.readouterr().out
