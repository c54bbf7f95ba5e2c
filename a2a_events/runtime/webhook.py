"""One request to a webhook (specification 4.3.3): what is sent, and what may come of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from a2a_events.runtime.seal import Secrets
from a2a_events.timeline.fold import Webhook

A2A_JSON: Final = "application/a2a+json"
TOKEN: Final = "X-A2A-Notification-Token"  # noqa: S105 -- a header's name
NOTIFICATION_ID: Final = "X-A2A-Notification-Id"
"""Names one update of one task, the same at every attempt: what a receiver dedupes by."""


class NotTaken(Exception):
    """An attempt that the webhook did not answer with 2xx; it may have been received all the same.

    The text says why, holds nothing that the webhook sent, and may stand in the log.

    Args:
        message: the text.
        result: the same in one word, as metrics show it.
    """

    def __init__(self, message: str, result: str = "refused") -> None:
        super().__init__(message)
        self.result = result


class Webhooks(Protocol):
    """Posts to webhooks; every target is checked again when a connection is made."""

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> None:
        """One attempt, of at most ``limits.WEBHOOK_TIMEOUT_SECONDS``.

        Raises:
            NotTaken: no 2xx came.
        """
        ...


class BodyOf(Protocol):
    """Makes the body for one update."""

    async def __call__(self, dialect: str, line: bytes, whole: Callable[[], Awaitable[bytes]]) -> tuple[bytes, str]:
        """Body and media type.

        Args:
            dialect: that the task was made in.
            line: of the update.
            whole: gives the Task as it is now, as JSON of A2A 1.0; costs as much as GetTask.
        """
        ...


async def body_of(
    dialect: str,  # noqa: ARG001 -- A2A 1.0 is what the log holds; older forms are made at the edge
    line: bytes,
    whole: Callable[[], Awaitable[bytes]],  # noqa: ARG001 -- as above
) -> tuple[bytes, str]:
    """The StreamResponse itself, as every stream shows it. See :class:`BodyOf`."""
    return line, A2A_JSON


def headers_of(task_id: str, revision: int, media_type: str, webhook: Webhook, secrets: Secrets) -> dict[str, str]:
    """The headers of a request; the ones that authenticate us were made fit for that when the config was set."""
    headers = {"Content-Type": media_type, NOTIFICATION_ID: f"{task_id}.{revision}"}
    if webhook.scheme and secrets.credentials:
        headers["Authorization"] = f"{webhook.scheme} {secrets.credentials}"
    if secrets.token:
        headers[TOKEN] = secrets.token
    return headers
