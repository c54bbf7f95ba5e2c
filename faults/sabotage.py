"""Negative controls: one safety of the product switched off, to see that the checker notices.

Patched into the processes of a run that asks for it (``--sabotage``), and nowhere else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, Self, cast

from a2a_events.log.jetstream import Names, StreamSettings, streams
from a2a_events.log.jetstream import log as jetstream
from a2a_events.log.jetstream.wire import header_block
from a2a_events.log.port import Dispatch, Handle, Log, Watch
from a2a_events.runtime.webhook import NotTaken
from a2a_events.services.webhook_client import WebhookClient
from a2a_events.timeline import decide
from a2a_events.timeline.decide import Ownership
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record

NO_EXPECTED_POSITION: Final = "no-expected-position"
"""Appends carry no condition: whoever comes last is last."""
NO_EPOCH: Final = "no-epoch"
"""A worker never believes that it lost its turn."""
RESUME_FROM_NOW: Final = "resume-from-now"
"""A gateway shows what comes from now on, whatever the cursor says."""
MEMORY_STORAGE: Final = "memory-storage"
"""Streams live in the memory of one server."""
ACK_BEFORE_APPEND: Final = "ack-before-append"
"""A worker settles a delivery before it has claimed the turn."""
NO_WEBHOOK_RETRY: Final = "no-webhook-retry"
"""A notifier takes any call of a webhook for one that was taken."""

KINDS: Final = (NO_EXPECTED_POSITION, NO_EPOCH, RESUME_FROM_NOW, MEMORY_STORAGE, ACK_BEFORE_APPEND, NO_WEBHOOK_RETRY)


def patch(kind: str) -> None:
    """Break what is no matter of the log's port. Once a process."""
    assert kind in {"", *KINDS}, f"no such sabotage: {kind}"
    if kind == NO_EXPECTED_POSITION:
        whole = header_block

        def unconditional(fields: Mapping[str, str]) -> bytes:
            return whole({name: value for name, value in fields.items() if not name.startswith("Nats-Expected")})

        setattr(jetstream, "header_block", unconditional)  # noqa: B010 -- the module does not export it
    elif kind == NO_EPOCH:
        decide.ownership = lambda *_: Ownership.OWNER
    elif kind == NO_WEBHOOK_RETRY:
        post = WebhookClient.post

        async def once(self: WebhookClient, url: str, headers: dict[str, str], body: bytes) -> None:
            with suppress(NotTaken):
                await post(self, url, headers, body)

        setattr(WebhookClient, "post", once)  # noqa: B010 -- a method


@contextmanager
def volatile() -> Generator[None]:
    """Whoever provisions meanwhile makes streams that live in the memory of one server."""
    made = streams.configurations

    def broken(names: Names, settings: StreamSettings, *, epoch: int = 1, live: str = "live") -> list[dict[str, Any]]:
        found = made(names, settings, epoch=epoch, live=live)
        return [{**config, "storage": "memory", "num_replicas": 1} for config in found]

    streams.configurations = broken
    try:
        yield
    finally:
        streams.configurations = made


def wrap(kind: str, log: Log) -> Log:
    """A log whose answers are broken."""
    if kind == RESUME_FROM_NOW:
        return cast("Log", _FromNow(log))
    if kind == ACK_BEFORE_APPEND:
        return cast("Log", _AcknowledgedFirst(log))
    return log


class _Around:
    """Everything as the log does it."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


class _FromNow(_Around):
    def watch(self, task: TaskRef) -> Watch:
        return cast("Watch", _WatchFromNow(self._log, task))


class _WatchFromNow:
    def __init__(self, log: Log, task: TaskRef) -> None:
        self._log = log
        self._task = task
        self._watch = log.watch(task)

    async def __aenter__(self) -> Self:
        await self._watch.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._watch.close()

    async def close(self) -> None:
        await self._watch.close()

    async def after(self, position: int, revision: int) -> AsyncGenerator[list[Record]]:
        last = await self._log.last(self._task)
        if last is not None and not (set(last.header.kinds) & {"S"}):
            # Whatever may be the end is still shown: a stream that never ends is another fault than the one meant.
            position, revision = last.position, last.header.last_revision
        async for records in self._watch.after(position, revision):
            yield records


class _AcknowledgedFirst(_Around):
    async def follow(self, agent: str) -> Dispatch:
        return cast("Dispatch", _Settling(await self._log.follow(agent)))


class _Settling(_Around):
    def __init__(self, dispatch: Dispatch) -> None:
        super().__init__(cast("Log", dispatch))
        self._dispatch = dispatch

    async def __aiter__(self) -> AsyncIterator[Handle]:
        async for handle in self._dispatch:
            await handle.acknowledge()
            yield handle
