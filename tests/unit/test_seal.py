"""Sealed secrets: nobody without the key reads them, and a seal fits one config of one task only."""

from __future__ import annotations

import base64
import os

import pytest

from a2a_events.log.memory import MemoryLog
from a2a_events.runtime.seal import SealBroken, Seals, Secrets, parse_keys

SECRETS = Secrets("token-1234", "credentials-5678")


async def test_a_seal_opens_with_the_deployment_s_own_key_in_every_process() -> None:
    log = MemoryLog()
    sealed = await Seals(log).seal(SECRETS, "task", "config")
    assert SECRETS == await Seals(log).open(sealed, "task", "config")
    assert "token-1234" not in sealed
    assert b"credentials" not in base64.urlsafe_b64decode(sealed.split(".")[2])


async def test_no_seal_is_like_another() -> None:
    seals = Seals(MemoryLog())
    assert len({await seals.seal(SECRETS, "task", "config") for _ in range(10)}) == 10


@pytest.mark.parametrize(("task", "config"), [("other", "config"), ("task", "other"), ("task\nconfig", "")])
async def test_a_seal_fits_its_own_config_only(task: str, config: str) -> None:
    seals = Seals(MemoryLog())
    sealed = await seals.seal(SECRETS, "task", "config")
    with pytest.raises(SealBroken):
        await seals.open(sealed, task, config)


async def test_a_damaged_or_foreign_seal_says_so() -> None:
    seals = Seals(MemoryLog())
    sealed = await seals.seal(SECRETS, "task", "config")
    version, name, content = sealed.split(".")
    for broken in (
        f"{version}.{name}.{content[:-8]}",
        f"{version}.{name}.",
        f"9.{name}.{content}",
        "x",
        f"{version}.{name}.%",
    ):
        with pytest.raises(SealBroken):
            await seals.open(broken, "task", "config")
    with pytest.raises(SealBroken):
        await Seals(MemoryLog()).open(sealed, "task", "config")


async def test_nothing_needs_no_seal() -> None:
    seals = Seals(MemoryLog())
    assert await seals.seal(Secrets(), "task", "config") == ""
    assert await seals.open("", "task", "config") == Secrets()


async def test_keys_are_changed_by_putting_a_new_one_first() -> None:
    log, old, new = MemoryLog(), os.urandom(32), os.urandom(32)
    before = await Seals(log, [old]).seal(SECRETS, "task", "config")
    changed = Seals(log, [new, old])
    after = await changed.seal(SECRETS, "task", "config")
    assert SECRETS == await changed.open(before, "task", "config") == await changed.open(after, "task", "config")
    with pytest.raises(SealBroken):
        await Seals(log, [old]).open(after, "task", "config")


def test_keys_are_read_as_operators_write_them() -> None:
    keys = [os.urandom(32), os.urandom(32)]
    text = "\n".join(base64.b64encode(key).decode() for key in keys) + "\n"
    assert keys == parse_keys(text)


@pytest.mark.parametrize("text", ["", "\n", "secret", base64.b64encode(bytes(16)).decode()])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"key|base64|padding"):
        parse_keys(text)
