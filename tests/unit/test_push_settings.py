"""What gateways and notifiers read of push notifications, and what they say when it cannot work."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path

import pytest

from a2a_events.log.memory import MemoryLog
from a2a_events.runtime import seal
from a2a_events.services import notifier, push
from a2a_events.settings import Settings, SettingsError, load


def test_push_notifications_are_offered_unless_a_setting_says_no() -> None:
    assert push.offered(load({}, {}))
    assert not push.offered(load({"push": False}, {}))
    assert not push.offered(load({}, {"A2A_EVENTS_PUSH": "false"}))
    assert not load({}, {}).push_allow_private


def test_without_what_seals_secrets_nothing_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "available", lambda: False)
    assert not push.offered(Settings())


async def test_a_notifier_that_cannot_work_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "available", lambda: False)
    with pytest.raises(SettingsError, match=r"a2a-events\[push\]"):
        await notifier.serve(MemoryLog(), Settings(), asyncio.Event())


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    file, key = tmp_path / "keys", os.urandom(32)
    file.write_bytes(base64.b64encode(key) + b"\n")
    assert (key,) == push.keys(Settings(push_keys=str(file)))
    assert () == push.keys(Settings())


@pytest.mark.parametrize("content", [b"", b"secret", b"\xff\xfe"])
def test_a_file_without_keys_is_named_and_its_content_is_not(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="keys") as refused:
        push.keys(Settings(push_keys=str(file)))
    assert "secret" not in str(refused.value).replace(str(file), "")
    with pytest.raises(SettingsError, match="cannot read"):
        push.keys(Settings(push_keys=str(tmp_path / "nowhere")))
