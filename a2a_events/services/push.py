"""What gateways and notifiers must agree on about push notifications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog

from a2a_events.bindings.v0_3 import schema
from a2a_events.bindings.v0_3.dialects import JSONRPC as V0_3
from a2a_events.runtime import seal, webhook
from a2a_events.settings import Settings, SettingsError

logger = structlog.get_logger(__name__)


def offered(settings: Settings) -> bool:
    """Whether this deployment offers push notifications; says so if it would and cannot."""
    if settings.push and not seal.available():
        logger.warning("push notifications are not offered: install a2a-events[push]")
        return False
    return settings.push


async def body_of(dialect: str, line: bytes, whole: Callable[[], Awaitable[bytes]]) -> tuple[bytes, str]:
    """What a webhook is sent: 0.3's clients get the whole task, as it is now. See ``runtime.webhook.BodyOf``."""
    if dialect != V0_3.name:
        return await webhook.body_of(dialect, line, whole)
    if line.startswith(b'{"message":'):  # an agent's whole answer: there is no task
        return msgspec.json.encode(schema.update(msgspec.json.decode(line), True)), "application/json"  # noqa: FBT003 -- its callable's way
    return schema.webhook_body(await whole()), "application/json"


def keys(settings: Settings) -> tuple[bytes, ...]:
    """The operator's keys for webhook secrets; none: the deployment makes its own.

    Raises:
        SettingsError: the file cannot be read, or holds something else.
    """
    if not settings.push_keys:
        return ()
    try:
        return tuple(seal.parse_keys(Path(settings.push_keys).read_text(encoding="ascii")))
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read the keys in {settings.push_keys}: {error}") from None
