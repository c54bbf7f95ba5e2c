"""Who asks for an operation, in which form, and what they get: what every operation takes and gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct


def _always() -> bool:
    return True


async def _to_the_end(wait: Awaitable[None]) -> None:
    await wait


class Caller(Struct, frozen=True):
    """Who asks, and how.

    ``tenant`` is the raw routing string of the request, ``subject`` who was authenticated, ``protocol_version`` and
    ``dialect`` the form in which the request came, ``extensions`` the URIs that were asked for and that this server
    knows. ``idempotency_key`` is what a send is to be known by, None without one. ``holds`` says whether they may still
    be shown anything: an answer can take longer than a credential lasts. ``waits`` runs the wait for a task: what was
    sent is stored then and need not be kept, and the wait may be ended before its time; the answer is then the task as
    it is.
    """

    tenant: str = ""
    subject: str = "anonymous"
    protocol_version: str = "1.0"
    dialect: str = "1.0"
    extensions: tuple[str, ...] = ()
    idempotency_key: str | None = None
    holds: Callable[[], bool] = _always
    waits: Callable[[Awaitable[None]], Awaitable[None]] = _to_the_end


class Result(Struct, frozen=True):
    """The answer of an operation as JSON, and what it was about; ids are empty where it is about no single task."""

    json: bytes
    task_id: str = ""
    context_id: str = ""
    revision: int = 0
    staleness_seconds: float | None = None
    """How old it is at most; None: it was read where it is written."""
