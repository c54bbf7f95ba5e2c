"""Notifying the webhooks of one task, in order, by one notifier at a time (ADR 0013).

What each webhook was sent is written down beside the log, under a condition, with who notifies now (the *holder*) and a
*lease*: a delivery of one of the task's records, and how often that record had been delivered. As with turns, no clock
decides. The holder keeps the delivery alive. If the record is delivered again, with a higher count, its holder has been
silent for the ack wait, and whoever got it takes over: the predecessor's next write is refused, and it stops. Whoever
gets another record of the task puts that one into the lease; a holder that lives notices, reads the log on, and puts
its own back.

An acknowledgement may come late, from somebody who holds nothing any more. So a record is acknowledged only for what
stays true: the log has a newer one of the task that wakes us, or all webhooks have what it holds. The newest record of
which something is owed is therefore never acknowledged, and comes back until somebody has done it.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from a2a_events import limits, tracing
from a2a_events.errors import Conflict
from a2a_events.log.port import Handle, Log, Watch
from a2a_events.metrics.catalog import PUSH_ATTEMPTS, PUSH_LAG_SECONDS
from a2a_events.runtime.commit import commit
from a2a_events.runtime.load import advance, content, load
from a2a_events.runtime.seal import SealBroken, Seals
from a2a_events.runtime.webhook import BodyOf, NotTaken, Webhooks, body_of, headers_of
from a2a_events.timeline import decide
from a2a_events.timeline.bounds import HistoryBounds
from a2a_events.timeline.fold import Head, Webhook
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record, Writer
from a2a_events.timeline.render import segment_keys
from a2a_events.timeline.render import task as render_task

logger = structlog.get_logger(__name__)


class Persistence(Struct, frozen=True):
    """How hard a webhook is tried."""

    attempts: int = limits.WEBHOOK_ATTEMPTS
    pause_seconds: float = limits.WEBHOOK_PAUSE_SECONDS
    longest_pause_seconds: float = limits.WEBHOOK_LONGEST_PAUSE_SECONDS

    def pause(self, failures: int) -> float:
        """Seconds before the next attempt: twice as long each time, and never for all at once."""
        pause = min(self.longest_pause_seconds, self.pause_seconds * 2.0 ** min(failures - 1, 32))
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 -- jitter


class Fenced(Exception):
    """Another notifier has taken the task over: write nothing, acknowledge nothing."""


class _Progress(Struct, rename="camel", omit_defaults=True):
    """What one webhook has taken."""

    config_revision: int
    """Of the event that set it: one that was set anew begins anew."""
    position: int
    revision: int
    failures: int = 0
    """Attempts at the next update that failed."""


class _State(Struct, rename="camel", omit_defaults=True):
    holder: str = ""
    """Who notifies; empty: nobody."""
    lease: int = 0
    """Position of a record; delivered more often than this, it is evidence that the holder is gone."""
    count: int = 0
    webhooks: dict[str, _Progress] = {}


_decoder: Final = msgspec.json.Decoder(_State)
_encode: Final = msgspec.json.Encoder().encode


class Notification:
    """One delivery's turn at the webhooks of a task, until all of them have what the log holds.

    Args:
        log: the log.
        handle: a record that clients see, of a task with webhooks.
        webhooks: posts.
        seals: opens secrets.
        writer: names this process in records.
        persistence: how hard to try.
        sign_seconds: how often to say that the delivery is being worked on.
        body_of: makes bodies.
    """

    def __init__(
        self,
        log: Log,
        handle: Handle,
        webhooks: Webhooks,
        seals: Seals,
        writer: Writer,
        *,
        persistence: Persistence,
        sign_seconds: float,
        body_of: BodyOf = body_of,
    ) -> None:
        self._body_of = body_of
        self._log = log
        self._me = os.urandom(9).hex()
        self._handle = handle
        """The delivery of the newest record that we were given."""
        self._settled: Handle | None = None
        self._task = handle.task
        self._client = webhooks
        self._seals = seals
        self._writer = writer
        self._persistence = persistence
        self._sign_seconds = sign_seconds
        self._head = Head()
        self._state = _State()
        self._version = 0
        self._confirmed = 0.0
        self._writing = asyncio.Lock()
        self._senders: dict[str, tuple[_Progress, asyncio.Task[None]]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._busy = 0
        """Webhooks that are being sent something, or wait for a next attempt."""
        self._open = asyncio.Event()
        """While it is not set nothing is sent: the task is being let go of."""
        self._open.set()
        self._changed = asyncio.Event()
        self._asked = 0
        """How often we were asked to read on before we let go of the task."""
        self._stopping = asyncio.Event()
        self._over = False
        self.posted = 0
        """Updates that webhooks have taken from us."""

    async def cover(self, handle: Handle) -> None:
        """Another record of the task was delivered here; of two, only the newer need come back if we fail."""
        older, newer = sorted((self._handle, handle), key=lambda one: one.record.position)
        self._handle = newer
        self._asked += 1
        self._changed.set()
        if older.record.position < newer.record.position:
            await older.acknowledge()

    @property
    def newest(self) -> Handle:
        """The delivery of the newest record that came here."""
        return self._handle

    @property
    def late(self) -> Handle | None:
        """After the end: a delivery that nobody looked at, to be given back."""
        return self._handle if self._over and self._handle is not self._settled else None

    def stop(self) -> None:
        """Begin no further attempt, and let another notifier go on. Returns at once."""
        self._stopping.set()
        self._changed.set()

    async def run(self) -> bool:
        """Notify until nothing is owed, the task is another's, or :meth:`stop`.

        Returns:
            False if another notifier does, and the delivery is to come back.

        Raises:
            LogError: the log did not answer, or holds what cannot be read; the delivery comes back.
        """
        if not await self._claim():
            return False
        try:
            await self._deliver()
            self._over = True
            if self._settled is not None:
                await self._settled.acknowledge()
        except* Fenced:
            logger.info("webhooks taken over by another notifier", task_id=self._task.task_id)
        return True

    # --- who notifies -------------------------------------------------------------------------------------------------

    async def _claim(self) -> bool:
        """Become the holder, if nobody is or our delivery is evidence against them; else see that they read on."""
        while True:
            stored, version = await self._log.notified(self._task)
            state = _decoder.decode(stored) if stored else _State()
            position, count = self._handle.record.position, self._handle.count
            self._state, self._version = state, version
            try:
                if not state.holder or (state.lease == position and state.count < count):
                    await self._write(held=True)
                    return True
                if state.lease < position:
                    state.lease, state.count = position, count
                    await self._log.put_notified(self._task, _encode(state), version)
            except Conflict:
                continue
            return False

    async def _put(self, *, held: bool) -> bool:
        """Write down what was sent, and whether we hold the task; False if we were questioned and hold it all the same.

        Raises:
            Fenced: somebody else notifies.
        """
        async with self._writing:
            try:
                await self._write(held=held)
            except Conflict:
                await self._answer()
                return held
            return True

    async def _check(self) -> None:
        """See that we are still the holder, and say so if somebody has asked.

        Raises:
            Fenced: we are not.
        """
        async with self._writing:
            if self._open.is_set() and await self._questioned():
                await self._answer()

    async def _answer(self) -> None:
        while True:
            await self._questioned()
            try:
                await self._write(held=True)
            except Conflict:
                continue
            return

    async def _write(self, *, held: bool) -> None:
        state, handle = self._state, self._handle
        state.holder, state.lease, state.count = (
            (self._me, handle.record.position, handle.count) if held else ("", 0, 0)
        )
        self._version = await self._log.put_notified(self._task, _encode(state), self._version)
        self._confirmed = asyncio.get_running_loop().time()

    async def _questioned(self) -> bool:
        """Whether somebody has put another lease since our last write.

        Raises:
            Fenced: somebody else notifies.
        """
        stored, version = await self._log.notified(self._task)
        if not stored or _decoder.decode(stored).holder != self._me:
            raise Fenced
        self._confirmed = asyncio.get_running_loop().time()
        if version == self._version:
            return False
        self._version = version
        self._asked += 1
        self._changed.set()
        return True

    # --- what is owed -------------------------------------------------------------------------------------------------

    async def _deliver(self) -> None:
        """Until everything was delivered, or we were asked to stop. Nobody is the holder after either."""
        async with self._log.watch(self._task) as watch:
            self._head = (await load(self._log, self._task)).head
            async with asyncio.TaskGroup() as group:
                self._group = group
                around = [group.create_task(self._follow(watch)), group.create_task(self._sign())]
                await self._read_on()
                await self._until_done()
                for work in [*around, *(sender for _, sender in self._senders.values())]:
                    work.cancel()

    async def _until_done(self) -> None:
        while not self._stopping.is_set():
            self._changed.clear()
            if not self._idle():
                await self._changed.wait()
            elif not self._head.terminal and await self._changes_within(limits.NOTIFIER_LINGER_SECONDS):
                pass  # not silent yet
            elif await self._let_go():
                return
        self._open.clear()
        while self._busy:
            self._changed.clear()
            await self._changed.wait()
        while not await self._put(held=False):
            pass

    async def _let_go(self) -> bool:
        """Hold the task no longer, unless there is more to do after all."""
        self._open.clear()
        try:
            asked = self._asked
            await self._read_on()
            if self._asked > asked or not self._idle() or not await self._put(held=False):
                return False
            if self._asked > asked:
                await self._put(held=True)  # a record was delivered here while we let go: hold on to the task again
                return False
            self._settled = self._handle
            return True
        finally:
            self._open.set()

    def _idle(self) -> bool:
        """Whether every webhook has what we know to be in the log."""
        return not self._busy and all(
            progress.revision >= self._head.revision for progress, _ in self._senders.values()
        )

    async def _changes_within(self, seconds: float) -> bool:
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):  # and not wait_for, which may swallow a cancellation
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _follow(self, watch: Watch) -> None:
        """Know of new records, and of webhooks that come and go, as they are stored."""
        async with aclosing(watch.after(self._head.position, self._head.revision)) as runs:
            async for records in runs:
                self._take(records)

    async def _read_on(self) -> None:
        """Know of everything that the leader has now."""
        async for records in self._log.read(self._task, self._head.position + 1):
            self._take(records)
        self._match()

    def _take(self, records: list[Record]) -> None:
        for record in records:
            self._head.apply(record)
        self._match()
        self._changed.set()

    async def _sign(self) -> None:
        """Keep the delivery alive, and answer who has questioned us."""
        while True:
            await asyncio.sleep(self._sign_seconds)
            await self._handle.in_progress()
            await self._check()

    # --- one webhook --------------------------------------------------------------------------------------------------

    def _match(self) -> None:
        """One sender for each webhook that is served, as it is set now."""
        assert self._group is not None, "senders live as long as the group"
        served = {webhook.id: webhook for webhook in self._head.webhooks if not webhook.dead}
        for config_id, (progress, sender) in list(self._senders.items()):
            if config_id not in served or served[config_id].revision != progress.config_revision:
                sender.cancel()
                del self._senders[config_id]
        for config_id, webhook in served.items():
            if config_id not in self._senders:
                known = self._state.webhooks.get(config_id)
                if known is None or known.config_revision != webhook.revision:
                    known = _Progress(webhook.revision, webhook.position, webhook.revision)
                self._senders[config_id] = (known, self._group.create_task(self._send_all(webhook, known)))
        self._state.webhooks = {config_id: progress for config_id, (progress, _) in self._senders.items()}

    async def _send_all(self, webhook: Webhook, progress: _Progress) -> None:
        """Send a webhook every update after what it has, one after the other."""
        async with self._log.watch(self._task) as watch:
            async for record in _records(self._log, self._task, watch, progress.position, progress.revision):
                await self._open.wait()
                self._busy += 1
                try:
                    for revision, line in record.updates(progress.revision):
                        if not await self._send(webhook, progress, revision, line, record.trace):
                            return
                        progress.position, progress.revision, progress.failures = record.position, revision, 0
                        said = record.header.times[revision - record.header.revision]
                        PUSH_LAG_SECONDS.observe(max(0.0, time.time() - said / 1000))
                        await self._put(held=True)
                    progress.position, progress.revision = record.position, record.header.last_revision
                finally:
                    self._busy -= 1
                    self._changed.set()

    async def _send(self, webhook: Webhook, progress: _Progress, revision: int, line: bytes, trace: str) -> bool:
        """One update, until it is taken; False if it was given up, or we were asked to stop."""
        while not self._stopping.is_set():
            if asyncio.get_running_loop().time() - self._confirmed > self._sign_seconds:
                await self._check()  # who was suspended should not send what a successor has sent
            try:
                await self._post(webhook, revision, line, trace)
            except (NotTaken, SealBroken) as error:
                progress.failures += 1
                reason = str(error)
                PUSH_ATTEMPTS.inc(error.result if isinstance(error, NotTaken) else "sealed")
            else:
                PUSH_ATTEMPTS.inc("taken")
                self.posted += 1
                logger.debug("notified", task_id=self._task.task_id, config=webhook.id, revision=revision)
                return True
            logger.warning(
                "webhook did not take an update",
                task_id=self._task.task_id,
                config=webhook.id,
                revision=revision,
                attempt=progress.failures,
                reason=reason,
            )
            if progress.failures >= self._persistence.attempts:
                await self._check()  # what did not take us may have taken a successor
                await self._give_up(webhook, progress, revision, reason)
                return False
            await self._put(held=True)
            try:
                async with asyncio.timeout(self._persistence.pause(progress.failures)):
                    await self._stopping.wait()
            except TimeoutError:
                pass  # the next attempt is due
        return False

    async def _post(self, webhook: Webhook, revision: int, line: bytes, trace: str) -> None:
        task_id = self._task.task_id
        attributes = {"http.request.method": "POST", "a2a.task.id": task_id, "a2a.push.config": webhook.id}
        with tracing.span("client", "push", attributes, parent=trace) as span:
            await self._post_in(span.context, webhook, revision, line)

    async def _post_in(self, trace: str, webhook: Webhook, revision: int, line: bytes) -> None:
        task_id = self._task.task_id
        secrets = await self._seals.open(webhook.sealed, task_id, webhook.id)
        body, media_type = await self._body_of(self._head.dialect, line, self._whole)
        headers = headers_of(task_id, revision, media_type, webhook, secrets) | tracing.headers(trace)
        await self._client.post(webhook.url, headers, body)

    async def _whole(self) -> bytes:
        fold = await load(self._log, self._task)
        bounds = HistoryBounds()
        shown, segments = await content(self._log, self._task, fold, segment_keys(fold, bounds))
        return render_task(shown, self._task.task_id, segments, bounds=bounds)

    async def _give_up(self, webhook: Webhook, progress: _Progress, revision: int, reason: str) -> None:
        """The webhook gets no more until it is set again; the task's timeline says so, and the operator is told."""
        assert self._group is not None, "senders live as long as the group"
        # Its record ends this sender when it is seen, which may be before whoever writes it is told that it stands.
        await asyncio.shield(self._group.create_task(self._write_off(webhook, progress, revision, reason)))
        await self._read_on()  # and so end this sender

    async def _write_off(self, webhook: Webhook, progress: _Progress, revision: int, reason: str) -> None:
        fold = await load(self._log, self._task)
        await advance(self._log, self._task, fold)  # what a terminal snapshot says of webhooks may be old
        await commit(
            self._log,
            self._writer,
            self._task,
            fold,
            lambda: decide.dead_letter(
                fold.head, webhook, revision, progress.failures, reason, int(time.time() * 1000)
            ),
        )
        logger.error(
            "webhook given up",
            task_id=self._task.task_id,
            config=webhook.id,
            revision=revision,
            attempts=progress.failures,
            reason=reason,
        )


async def _records(log: Log, task: TaskRef, watch: Watch, position: int, revision: int) -> AsyncIterator[Record]:
    """Every record with a revision after this one: those that the log has, then those that come."""
    async for records in log.read(task, max(position, 1)):
        for record in records:
            if record.header.last_revision > revision:
                position, revision = record.position, record.header.last_revision
                yield record
    async with aclosing(watch.after(position, revision)) as runs:
        async for records in runs:
            for record in records:
                yield record
