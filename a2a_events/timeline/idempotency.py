"""What an idempotency key stands for, and when two requests under it are the same (ADR 0018).

A key counts within one tenant, caller and agent: the same text from anybody else is another key. The log holds what is
computed from a key, never the key. Requests are the same if they ask for the same: order and spacing of their JSON, the
binding, the headers, and how the answer is wanted do not matter.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final, cast

import msgspec
from msgspec import Struct

from a2a_events import limits
from a2a_events.model import SendMessageConfiguration, SendMessageRequest
from a2a_events.timeline.ids import RANDOM_BYTES, task_id

IDEMPOTENT_SEND: Final = "urn:a2a-events:idempotent-send:v1"
"""URI of the extension by which a card says that keys are honoured (``docs/extensions/idempotent-send.md``)."""

_KEY: Final = re.compile(rf"[\x21-\x7e]{{1,{limits.IDEMPOTENCY_KEY_CHARACTERS}}}")
_BODY_BYTES: Final = 16
_EXACT: Final = 2.0**53
"""From here on a double does not hold every integer."""
_builtins: Final = msgspec.json.Decoder()
_sorted: Final = msgspec.json.Encoder(order="deterministic")


class Mark(Struct, frozen=True):
    """What the log keeps of one keyed request.

    Args:
        key: names the key, within its tenant, caller and agent.
        body: of what was asked for under it.
    """

    key: str
    body: str


class KeyScope(Struct, frozen=True):
    """Within which a key counts.

    Args:
        tenant: the raw routing string.
        subject: who asks.
        agent: who is asked.
    """

    tenant: str
    subject: str
    agent: str


def is_key(text: str) -> bool:
    """Whether this can be a key: 1 to ``limits.IDEMPOTENCY_KEY_CHARACTERS`` visible ASCII characters."""
    return _KEY.fullmatch(text) is not None


def derived_task_id(key: str, scope: KeyScope, log: str, shards: int) -> tuple[str, int]:
    """The id of the task that a key's first request makes, and its shard.

    Args:
        key: of the client.
        scope: within which it counts.
        log: name of the log.
        shards: over which keys are spread; must never change for this log (turns 7.3).
    """
    digest = _digest(key, scope)
    shard = int.from_bytes(digest[RANDOM_BYTES:]) % shards
    return task_id(log, shard, digest[:RANDOM_BYTES]), shard


def mark(key: str, scope: KeyScope, request: SendMessageRequest) -> Mark:
    """What the log is to keep of a request under a key."""
    body = hmac.digest(key.encode(), _canonical(request), "sha256")[:_BODY_BYTES]
    return Mark(_text(_digest(key, scope)[:RANDOM_BYTES]), _text(body))


def _digest(key: str, scope: KeyScope) -> bytes:
    parts = (scope.tenant, scope.subject, scope.agent, key)
    # Each is hashed by itself, so that none can reach into its neighbour.
    hashes = [hashlib.sha256(part.encode(errors="surrogatepass")).digest() for part in parts]
    return hashlib.sha256(b"".join(hashes)).digest()


def _canonical(request: SendMessageRequest) -> bytes:
    """What is asked for, as the same bytes whoever wrote it."""
    configuration = msgspec.structs.replace(
        request.configuration or SendMessageConfiguration(), history_length=None, return_immediately=False
    )
    parts = (request.message, configuration, request.metadata or {})
    return _sorted.encode(_plain(_builtins.decode(_sorted.encode(parts))))


def _plain(value: object) -> object:
    """The value with whole numbers written as such: protobuf knows no others than 3.0."""
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_plain(element) for element in cast("list[object]", value)]
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return value


def _text(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
