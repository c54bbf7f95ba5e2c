"""Webhook secrets, sealed: AES-256-GCM, bound to the task and the config, so that a copy elsewhere does not open.

Whoever reads the log, exports it or prints a timeline sees a seal and no secret. Gateways seal, notifiers open.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final

import msgspec
from msgspec import Struct

from a2a_events.log.port import Log
from a2a_events.timeline.ids import parse_task_id

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_VERSION: Final = "1"


class Secrets(Struct, frozen=True, omit_defaults=True):
    """What a webhook's owner must not see in the hands of others."""

    token: str = ""
    credentials: str = ""


class SealBroken(Exception):
    """This seal was made with another key, for another config, or is damaged."""


def available() -> bool:
    """Whether secrets can be sealed: ``cryptography`` is an extra (``a2a-events[push]``)."""
    return find_spec("cryptography") is not None


def parse_keys(text: str) -> list[bytes]:
    """Keys as an operator keeps them: base64 of 32 bytes each, one a line; the first seals, all open.

    Raises:
        ValueError: there is none, or one is something else.
    """
    keys = [base64.b64decode(line, validate=True) for line in text.split()]
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        message = f"a key is base64 of {KEY_BYTES} random bytes, one a line"
        raise ValueError(message)
    return keys


class Seals:
    """Seals and opens, with an operator's keys, or with one that the deployment keeps beside its log.

    Args:
        log: keeps the key where none is given; asked once.
        keys: the first seals, all open.
    """

    def __init__(self, log: Log, keys: Sequence[bytes] = ()) -> None:
        self._log = log
        self._keys = {_name(key): key for key in keys}
        self._of_logs: dict[str, dict[str, bytes]] = {}

    async def seal(self, secrets: Secrets, task_id: str, config_id: str) -> str:
        """The secrets as they may stand in the log; empty if there are none.

        Raises:
            Unavailable: the log did not give its key.
        """
        if secrets == Secrets():
            return ""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 -- an extra

        name, key = next(iter((await self._known(task_id)).items()))
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + AESGCM(key).encrypt(nonce, msgspec.json.encode(secrets), _bound(task_id, config_id))
        return f"{_VERSION}.{name}.{base64.urlsafe_b64encode(sealed).decode()}"

    async def open(self, sealed: str, task_id: str, config_id: str) -> Secrets:
        """What was sealed for this config of this task.

        Raises:
            SealBroken: it cannot be opened here; a retry helps only once the key is there.
            Unavailable: the log did not give its key.
        """
        if not sealed:
            return Secrets()
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 -- an extra
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 -- as above

        version, _, rest = sealed.partition(".")
        name, _, content = rest.partition(".")
        key = (await self._known(task_id)).get(name)
        if version != _VERSION or key is None:
            raise SealBroken("sealed with a key that is not known here")
        try:
            raw = base64.urlsafe_b64decode(content)
            opened = AESGCM(key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound(task_id, config_id))
            return msgspec.json.decode(opened, type=Secrets)
        except (InvalidTag, ValueError):
            raise SealBroken("the seal does not fit") from None

    async def _known(self, task_id: str) -> dict[str, bytes]:
        """Those that were given, or the one of the task's log: its notifiers have no other."""
        if self._keys:
            return self._keys
        place = parse_task_id(task_id)
        log = place[0] if place is not None else ""
        if log not in self._of_logs:
            key = await self._log.sealing_key(log)
            self._of_logs[log] = {_name(key): key}
        return self._of_logs[log]


def _name(key: bytes) -> str:
    """Names a key and tells nothing of it."""
    return hashlib.sha256(b"a2a-events webhook key " + key).hexdigest()[:8]


def _bound(task_id: str, config_id: str) -> bytes:
    return f"{task_id}\n{config_id}".encode()
