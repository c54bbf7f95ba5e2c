"""The keys that sign a gateway's cards, as settings: what is wrong is said at the start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from structlog.testing import capture_logs

from a2a_events import limits
from a2a_events.services.card_signing import card_signer
from a2a_events.settings import Settings, SettingsError
from a2a_events.signing.keys import Key, new_key

ED, EC = new_key("EdDSA", kid="ed"), new_key("ES256", kid="ec")


def stored(path: Path, *keys: Key) -> str:
    path.write_text(json.dumps({"keys": [key.jwk for key in keys]}))
    return str(path)


def names(card_keys: str) -> list[str]:
    signer = card_signer(Settings(card_keys=card_keys))
    assert signer is not None
    return [key.kid for key in signer.keys]


def test_without_keys_nothing_is_signed() -> None:
    assert card_signer(Settings()) is None


def test_keys_of_several_files_sign(tmp_path: Path) -> None:
    pem = tmp_path / "key.pem"
    pem.write_bytes(EC.loaded.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    jwk = stored(tmp_path / "a.json", ED)
    assert ["ed", "named"] == names(f"{jwk}, named={pem}")


def test_a_file_that_becomes_unreadable_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FILE_FRESH_SECONDS", 0.0)
    path = tmp_path / "a.json"
    signer = card_signer(Settings(card_keys=stored(path, ED)))
    assert signer is not None
    path.write_text("nothing")
    assert ["ed"] == [key.kid for key in signer.keys]
    stored(path, ED, EC)
    assert ["ed", "ec"] == [key.kid for key in signer.keys]
    path.unlink()
    assert ["ed", "ec"] == [key.kid for key in signer.keys]


def test_a_name_that_two_files_come_to_have_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FILE_FRESH_SECONDS", 0.0)
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    signer = card_signer(Settings(card_keys=f"{stored(a, ED)},{stored(b, EC)}"))
    assert signer is not None
    other = new_key("EdDSA", kid="ed")
    stored(b, EC, other)
    with capture_logs() as logged:
        for _ in range(3):
            assert [ED.jwk, EC.jwk] == [key.jwk for key in signer.keys]
    (said,) = [line["error"] for line in logged if line["log_level"] == "error"]
    assert "two keys have the same name: ed" == said
    stored(a, new_key("EdDSA", kid="fresh"))
    assert ["fresh", "ec", "ed"] == [key.kid for key in signer.keys]
    assert other.jwk == signer.keys[2].jwk


def test_what_cannot_sign_is_refused_at_the_start(tmp_path: Path) -> None:
    good = stored(tmp_path / "good.json", ED)
    public = tmp_path / "public.json"
    public.write_text(json.dumps(ED.public))
    expired = tmp_path / "expired.json"
    expired.write_text(json.dumps({**ED.jwk, "exp": 1}))
    for keys, jku, said in (
        (str(tmp_path / "none.json"), "", "cannot read"),
        (str(public), "", "public key, which cannot sign"),
        (str(expired), "", "expired"),
        (f"{good},{good}", "", "the same name"),
        (f"x={stored(tmp_path / 'two.json', ED, EC)}", "", "name of several keys"),
        (good, "http://a.example/keys", "https"),
        ("", "https://a.example/keys", "names none"),
    ):
        with pytest.raises(SettingsError, match=said):
            card_signer(Settings(card_keys=keys, card_jku=jku))
