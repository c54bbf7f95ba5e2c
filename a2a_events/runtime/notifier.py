"""A notifier: delivers every update to every webhook of its task, at least once and in order (specification 4.3.3).

It follows the log by a durable consumer that all notifiers share. A record of a task without webhooks, which its
header says, is acknowledged at once; any other wakes its task's :class:`~.notification.Notification`, which reads the
log. Tasks wait for each other in nothing but connections, of which each host gets a share.
"""

from __future__ import annotations

import asyncio

import structlog
from structlog.contextvars import bind_contextvars

from a2a_events import limits
from a2a_events.errors import LogError
from a2a_events.log.patience import patiently
from a2a_events.log.port import Dispatch, Handle, Log
from a2a_events.runtime.notification import Notification, Persistence
from a2a_events.runtime.seal import Seals
from a2a_events.runtime.webhook import BodyOf, Webhooks, body_of
from a2a_events.timeline.fold import is_public
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Writer

_STOP_SECONDS = limits.WEBHOOK_TIMEOUT_SECONDS + limits.REQUEST_TIMEOUT_SECONDS

logger = structlog.get_logger(__name__)


class Notifier:
    """Notifies webhooks until :meth:`stop`. Run as many as you like; one is enough to lose nothing.

    Args:
        log: the log.
        webhooks: posts.
        seals: opens secrets.
        writer: names this process in records.
        persistence: how hard a webhook is tried.
        ack_wait_seconds: as provisioned: silence after which another notifier takes a task over.
        body_of: makes bodies.
        tasks: how many to notify for at once, those that wait for a next attempt included.
    """

    def __init__(
        self,
        log: Log,
        webhooks: Webhooks,
        seals: Seals,
        writer: Writer,
        *,
        persistence: Persistence | None = None,
        ack_wait_seconds: float = limits.ACK_WAIT_SECONDS,
        body_of: BodyOf = body_of,
        tasks: int = limits.NOTIFIED_TASKS,
    ) -> None:
        self._log = log
        self._webhooks = webhooks
        self._seals = seals
        self._writer = writer
        self._persistence = persistence or Persistence()
        self._ack_wait_seconds = ack_wait_seconds
        self._elsewhere: dict[TaskRef, Handle] = {}
        """The newest delivery of each task that another notifier has, until it would have come back."""
        self._body_of = body_of
        self._tasks = tasks
        self._running: dict[TaskRef, tuple[Notification, asyncio.Task[None]]] = {}
        self._dispatch: Dispatch | None = None
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()
        """Set once deliveries are taken."""

    async def run(self) -> None:
        """Serve until :meth:`stop` was called and attempts under way have ended.

        Raises:
            LogError: the log's consumer cannot be made.
        """
        dispatch = self._dispatch = await patiently(self._log.follow_all, "deliveries")
        loop = asyncio.get_running_loop()
        work = [loop.create_task(self._take(dispatch)), loop.create_task(self._stopping.wait())]
        self._grant()
        self.ready.set()
        logger.info("notifier ready", instance=self._writer.instance)
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            if work[0].done():
                work[0].result()
        finally:
            for one in work:
                one.cancel()
            await dispatch.close()
            await self._drain()
        logger.info("notifier stopped")

    def stop(self) -> None:
        """Take no more deliveries, and let attempts under way end. Returns at once."""
        self._stopping.set()

    async def _drain(self) -> None:
        for notification, _ in self._running.values():
            notification.stop()
        running = [task for _, task in self._running.values()]
        if running:
            await asyncio.wait(running, timeout=_STOP_SECONDS)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _grant(self) -> None:
        if self._dispatch is not None and not self._stopping.is_set():
            self._dispatch.grant(max(0, self._tasks - len(self._running)))

    async def _take(self, dispatch: Dispatch) -> None:
        async for handle in dispatch:
            running = self._running.get(handle.task)
            if not handle.record.header.webhooks or not is_public(handle.record):
                await handle.acknowledge()
            elif running is None:
                self._start(handle)
            else:
                await running[0].cover(handle)
            self._grant()

    def _start(self, handle: Handle) -> None:
        notification = Notification(
            self._log,
            handle,
            self._webhooks,
            self._seals,
            self._writer,
            persistence=self._persistence,
            sign_seconds=self._ack_wait_seconds / 3,
            body_of=self._body_of,
        )
        task = asyncio.get_running_loop().create_task(self._notify(notification, handle))
        self._running[handle.task] = (notification, task)

    async def _notify(self, notification: Notification, handle: Handle) -> None:
        task, elsewhere = handle.task, False
        bind_contextvars(task_id=task.task_id)
        try:
            elsewhere = not await notification.run()
            if not elsewhere:
                logger.info("webhooks notified", task_id=task.task_id, posted=notification.posted)
        except* LogError as errors:
            # Not acknowledged: the delivery comes back.
            logger.warning("webhooks not notified", task_id=task.task_id, error=_first(errors))
        except* Exception as errors:  # one task's trouble must not become the others'
            logger.error("notifying failed", task_id=task.task_id, error=_first(errors), exc_info=errors)
        finally:
            self._running.pop(task, None)
            late = notification.late
            if late is not None:
                await late.give_back()
            if elsewhere:
                await self._keep(notification.newest)
            self._grant()

    async def _keep(self, handle: Handle) -> None:
        """Another notifier has the task: the newest record that we were given comes back, the others need not."""
        known = self._elsewhere.get(handle.task, handle)
        older, newer = sorted((known, handle), key=lambda one: one.record.position)
        self._elsewhere[handle.task] = newer
        asyncio.get_running_loop().call_later(self._ack_wait_seconds, self._forget, newer)
        if older.record.position < newer.record.position:
            await older.acknowledge()

    def _forget(self, handle: Handle) -> None:
        if self._elsewhere.get(handle.task) is handle:
            del self._elsewhere[handle.task]


def _first(errors: BaseExceptionGroup[Exception]) -> str:
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first) or type(first).__name__
