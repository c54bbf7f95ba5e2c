"""What searches for secrets finds them in any form in which they would leak."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.haystack import Haystack

SECRET = b"canary-0123456789-secret"


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
@pytest.mark.parametrize(
    "form",
    [
        lambda text: text,
        base64.b64encode,
        lambda text: base64.urlsafe_b64encode(text + b"?>?>"),
        lambda text: text.hex().encode(),
        lambda text: text.hex().upper().encode(),
        lambda text: gzip.compress(b"x" * 100 + text),
        lambda text: b"\x00\xff" + text + b"\xfe",
    ],
    ids=["plain", "base64", "urlsafe", "hex", "HEX", "gzip", "binary"],
)
def test_a_secret_is_found_in_any_form(before: str, form: Callable[[bytes], bytes], tmp_path: Path) -> None:
    haystack = Haystack()
    (tmp_path / "file").write_bytes(form(before.encode() + SECRET + b" and more"))
    haystack.add_folder("folder", tmp_path)
    assert {(surface, name) for surface, _, name in haystack.found({"it": SECRET, "other": b"canary-not-there"})} == {
        ("folder", "it")
    }


def test_its_own_file_may_hold_it(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_bytes(SECRET)
    haystack = Haystack()
    haystack.add_folder("folder", tmp_path, [own])
    assert haystack.found({"it": SECRET}) == []
    assert haystack.surfaces == set()
