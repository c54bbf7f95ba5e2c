"""The operations of A2A 1.0, once for all bindings (design: the walk of one request).

A gateway decides from the fold, appends on its position, and tails the log; it keeps nothing that another gateway would
miss. SendMessage is the end of the iterator that SendStreamingMessage shows; SubscribeToTask is the same tail from
another position. Results are JSON bytes, because the log holds what clients see as they see it.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, contextmanager
from typing import Final

import msgspec
import structlog
from msgspec import Raw, Struct

from a2a_events import limits
from a2a_events.errors import (
    ContentTypeNotSupportedError,
    ExtendedAgentCardNotConfiguredError,
    InvalidParamsError,
    TaskNotFoundError,
    Unavailable,
    UnavailableError,
    Unreadable,
    UnsupportedOperationError,
)
from a2a_events.log.port import Log, Watch
from a2a_events.metrics.catalog import SSE_EVENTS, SSE_LAG_SECONDS, SSE_RESUMES
from a2a_events.model import (
    TERMINAL_STATES,
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    Message,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
    TaskState,
    encode,
    timestamp_of,
)
from a2a_events.runtime.caller import Caller, Result
from a2a_events.runtime.commit import commit, create
from a2a_events.runtime.demand import Admission, Attendance
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.framing import REPLAY_EXTENSION, Framing, Update, with_generation
from a2a_events.runtime.index import TaskIndex
from a2a_events.runtime.listing import Listing
from a2a_events.runtime.load import content, load, load_for
from a2a_events.runtime.push_configs import PushConfigs, Targets
from a2a_events.timeline import cursor as cursors
from a2a_events.timeline import decide
from a2a_events.timeline.bounds import HistoryBounds, TaskBounds
from a2a_events.timeline.events import NOTHING, Actor, Kind, MessageReceived, PushConfigSet, Submitted
from a2a_events.timeline.fold import Head, Phase, TaskFold, is_public, public_states
from a2a_events.timeline.idempotency import KeyScope, Mark, derived_task_id, is_key, mark
from a2a_events.timeline.ids import RANDOM_BYTES, TaskRef, reference, task_id, token
from a2a_events.timeline.record import Entry, Record, Writer
from a2a_events.timeline.render import segment_keys
from a2a_events.timeline.render import task as render_task

_REPLY: Final = Kind.REPLY.value

logger = structlog.get_logger(__name__)


class Run(Struct, frozen=True):
    """Updates that are ready together; none is a sign of life. After the ``last`` one the stream has ended."""

    updates: list[Update]
    last: bool = False
    time: int = 0
    """When the newest of them was written, by its writer's clock, milliseconds; 0 where that says nothing."""


class _Sent(Struct, frozen=True):
    """A message that is in the log."""

    task: TaskRef
    watch: Watch
    """From before it was there; whoever got this closes it."""
    fold: TaskFold
    """At the message, or later if it was ``repeated``."""
    repeated: bool
    """It was there already, under its idempotency key; nothing was written."""


class _Awaited:
    """A task that a message was sent to and whose sender waits: its fold while that is small, or else its head."""

    __slots__ = ("fold", "head")

    def __init__(self, fold: TaskFold) -> None:
        self.head = fold.head
        self.fold: TaskFold | None = fold
        """None: it is too large to be kept."""

    async def until_answerable(self, watch: Watch, holds: Callable[[], bool], *, immediately: bool) -> None:
        """Wait until SendMessage can be answered, or its sender may be shown nothing more."""
        self._keep_little()
        async with aclosing(watch.after(self.head.position, self.head.revision)) as runs:
            async for records in runs:
                if not holds():
                    return
                for record in records:
                    (self.fold or self.head).apply(record)
                self._keep_little()
                if _answerable(self.head, immediately=immediately):
                    return

    def _keep_little(self) -> None:
        if self.fold is not None and self.fold.unsealed_bytes > limits.AWAITED_BYTES:
            self.fold = None


class Updates:
    """A stream that has begun: the task is known, and every error that precedes the first update has been raised.

    Iterate to get its runs. Always close it (``aclose``), or use ``aclosing``.
    """

    __slots__ = ("_begun", "_runs", "_watch", "context_id", "revision", "staleness_seconds", "task")

    def __init__(
        self,
        task: TaskRef,
        context_id: str,
        runs: AsyncGenerator[Run],
        watch: Watch,
        staleness_seconds: float | None = None,
    ) -> None:
        self.task = task
        self.context_id = context_id
        self.revision = 0
        """The newest one sent."""
        self._begun = int(time.time() * 1000)
        self.staleness_seconds = staleness_seconds
        """How old the log was at most, when the stream began; None: it is read where it is written."""
        self._runs = runs
        self._watch = watch

    def __aiter__(self) -> AsyncGenerator[Run]:
        return self._runs

    def sent(self, run: Run) -> None:
        """Note what the client has been sent."""
        if run.updates:
            self.revision = run.updates[-1].revision
            SSE_EVENTS.inc(by=len(run.updates))
            if run.time >= self._begun:  # what is older was replayed, and waited for its client
                SSE_LAG_SECONDS.observe(max(0.0, time.time() - run.time / 1000))

    async def aclose(self) -> None:
        """Give up the interest in the task; the task goes on."""
        await self._runs.aclose()
        await self._watch.close()


class Operations:
    """Every operation of one gateway.

    Args:
        log: the log.
        writer: names this process in records.
        index: of the log; default: one in memory, made when a list is first asked for.
        generations: whether tasks and updates show the generation that A2A 1.1 adds.
        cancel_wait_seconds: how long CancelTask waits for the end.
        queue_limit: messages of one agent that are queued or running, over which new tasks are refused; 0: none.
        targets: which webhooks are accepted.
        bounds: of each task; what would be more is refused.
        history: how much of it answers show.
        signed: signs a card, as JSON; None: they go without signatures.
        now: the clock, milliseconds since 1970.
    """

    def __init__(
        self,
        log: Log,
        writer: Writer,
        *,
        index: TaskIndex | None = None,
        generations: bool = False,
        cancel_wait_seconds: float = limits.CANCEL_WAIT_SECONDS,
        queue_limit: int = limits.QUEUE_LIMIT,
        targets: Targets | None = None,
        bounds: TaskBounds | None = None,
        history: HistoryBounds | None = None,
        signed: Callable[[bytes], bytes] | None = None,
        now: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._log = log
        self._writer = writer
        self._cancel_wait_seconds = cancel_wait_seconds
        self._now = now
        self._bounds = bounds or TaskBounds()
        self._history = history or HistoryBounds()
        self.push_configs = PushConfigs(log, writer, targets or Targets(), bounds=self._bounds, now=now)
        self._admission = Admission(log, queue_limit)
        self._attendance = Attendance(log, now)
        self._index = index
        self._signed = signed
        self._generations = generations
        self._listing: Listing | None = None

    async def close(self) -> None:
        """Let go of the index."""
        if self._index is not None:
            await self._index.close()

    # --- SendMessage --------------------------------------------------------------------------------------------------

    async def send(self, caller: Caller, agent: ServedAgent, request: SendMessageRequest) -> Result:
        """SendMessage (specification 3.1.1): the Task when it has ended or waits for the client, or a bare Message.

        With ``returnImmediately`` the Task as it is once the message is in the log. Under an idempotency key a message
        is taken once, and who repeats it gets what its first sender gets (ADR 0018). When the caller's credential ends,
        or whoever looks after the wait ends it (``Caller.waits``), the answer is the Task as it was.

        A task of more than ``limits.AWAITED_BYTES`` is not kept while it is waited for: it is read for the answer.
        That costs what GetTask costs.

        Returns:
            A SendMessageResponse.

        Raises:
            A2AError: as the specification says; nothing was written, unless it is UnavailableError and says so.
        """
        immediately = request.configuration is not None and request.configuration.return_immediately
        length = request.configuration.history_length if request.configuration else None
        sent = await self._begin(caller, agent, request)
        del request  # it is stored
        task, watch, repeated, awaited = sent.task, sent.watch, sent.repeated, _Awaited(sent.fold)
        del sent
        try:
            answered = immediately and awaited.head.exists
            if not (answered or (repeated and _answerable(awaited.head, immediately=immediately))):
                await caller.waits(awaited.until_answerable(watch, caller.holds, immediately=immediately))
                if not awaited.head.terminal:
                    _require_shown(task, awaited.head, caller)
            with _written(task):
                fold = awaited.fold or await load(self._log, task)
                if not (fold.head.exists or fold.head.replied):
                    raise Unavailable("the task was removed")
                shown = await self._response(task, fold, length)
            return self._result(shown, task, fold)
        finally:
            await watch.close()

    async def send_stream(
        self, caller: Caller, agent: ServedAgent, request: SendMessageRequest, *, cursor: str | None = None
    ) -> Updates:
        """SendStreamingMessage (specification 3.1.2): the Task, then its updates until it ends or waits for the client.

        Repeated under its idempotency key, the Task as it is, and what follows. A request with a cursor is a client
        that wants to resume; it must not start a second task, and is refused.

        Raises:
            A2AError: as :meth:`send`; once this has returned, the message is in the log.
        """
        _require_streaming(agent)
        if cursor:
            text = "To resume a stream use SubscribeToTask with the cursor; sending again would start a second task"
            raise InvalidParamsError(text, violations=(("Last-Event-ID", text),))
        length = request.configuration.history_length if request.configuration else None
        sent = await self._begin(caller, agent, request)
        task, watch, head = sent.task, sent.watch, sent.fold.head
        framing = self._framing(caller, task)
        if head.replied:
            runs = _just(framing.reply(head, sent.fold.content.reply))
        else:
            runs = self._follow(task, watch, sent.fold, length, framing, until_interrupted=True)
        return Updates(task, head.context_id, runs, watch, self._log.staleness(task.log))

    # --- GetTask, CancelTask ------------------------------------------------------------------------------------------

    async def get(self, caller: Caller, agent: ServedAgent, request: GetTaskRequest) -> Result:
        """GetTask (specification 3.1.3): the Task as the log's leader has it now.

        Raises:
            TaskNotFoundError: not there, or not this caller's.
        """
        task = _task(caller, agent, request.id)
        fold = await self._visible(caller, task)
        if self._generations and request.current_generation is not None:
            fold = await self._newer(task, fold, request.current_generation)
        shown = await self._shown(task, fold, request.history_length, patient=True)
        return self._result(shown, task, fold)

    async def visible(self, caller: Caller, agent: ServedAgent, raw_id: str) -> TaskRef:
        """The task of this id, if :meth:`get` would show it to this caller; costs what loading it costs.

        Raises:
            TaskNotFoundError: not there, or not this caller's.
        """
        task = _task(caller, agent, raw_id)
        await self._visible(caller, task)
        return task

    async def _newer(self, task: TaskRef, fold: TaskFold, generation: int) -> TaskFold:
        """The task once it is past a generation, or as it is after a bounded wait (A2A 1.1, behind a setting)."""
        if fold.head.terminal or fold.head.generation > generation:
            return fold
        async with self._log.watch(task) as watch:
            fold = await load(self._log, task)
            try:
                async with asyncio.timeout(limits.LONG_POLL_SECONDS), aclosing(_after(watch, fold)) as runs:
                    while not fold.head.terminal and fold.head.generation <= generation:
                        for record in await anext(runs):
                            fold.apply(record)
            except TimeoutError:
                pass
            return fold

    async def cancel(self, caller: Caller, agent: ServedAgent, request: CancelTaskRequest) -> Result:
        """CancelTask (specification 3.1.5): the latest Task, after a bounded wait for it to end.

        Raises:
            TaskNotFoundError: not there, or not this caller's.
            TaskNotCancelableError: it has ended.
        """
        task = _task(caller, agent, request.id)
        actor = Actor(tenant=caller.tenant, subject=caller.subject)
        metadata = Raw(encode(request.metadata)) if request.metadata else NOTHING
        async with self._log.watch(task) as watch:
            fold = await self._visible(caller, task)
            await self._decide(task, fold, lambda: decide.cancel(fold.head, task.task_id, actor, metadata, self._now()))
            head = fold.head
            if not head.terminal:
                try:
                    async with asyncio.timeout(self._cancel_wait_seconds), aclosing(_after(watch, fold)) as runs:
                        async for records in runs:
                            for record in records:
                                fold.apply(record)
                            if fold.head.terminal:
                                break
                except TimeoutError:
                    pass  # the worker ends it within its grace time; the answer is the task as it is
            with _written(task):
                shown = await self._shown(task, fold, None)
            return self._result(shown, task, fold)

    async def list_tasks(self, caller: Caller, agent: ServedAgent, request: ListTasksRequest) -> Result:
        """ListTasks (specification 3.1.4). See ``listing.Listing.page``."""
        if self._listing is None:
            self._index = self._index or TaskIndex(self._log)
            self._listing = Listing(self._log, self._index, generations=self._generations, history=self._history)
        return await self._listing.page(caller, agent, request)

    async def extended_card(self, caller: Caller, agent: ServedAgent) -> Result:
        """GetExtendedAgentCard (specification 3.1.11): the one of the caller's tenant, or else that of all callers.

        Raises:
            UnsupportedOperationError: the card does not declare one.
            ExtendedAgentCardNotConfiguredError: it does, and this gateway has none.
        """
        if not agent.card.capabilities.extended_agent_card:
            raise UnsupportedOperationError("This agent has no extended card")
        card = agent.extended.get(caller.tenant) or agent.extended.get("")
        if card is None:
            raise ExtendedAgentCardNotConfiguredError
        content = encode(card)
        return Result(self._signed(content) if self._signed is not None else content)

    # --- SubscribeToTask ----------------------------------------------------------------------------------------------

    async def subscribe(
        self, caller: Caller, agent: ServedAgent, request: SubscribeToTaskRequest, *, cursor: str | None = None
    ) -> Updates:
        """SubscribeToTask (specification 3.1.6): the Task, then every update until it ends.

        With a cursor: every update strictly after it, through the terminal one, also on a task that has ended, and no
        Task first (ADR 0006). A cursor of another incarnation, overtaken by retention, or at a place where the log has
        no such event (any more), gets the Task as it is now, with a gap marked in its metadata.

        Raises:
            TaskNotFoundError: not there, or not this caller's.
            UnsupportedOperationError: it has ended, and no cursor was given.
            InvalidParamsError: the cursor is not one of this task.
        """
        _require_streaming(agent)
        task = _task(caller, agent, request.id)
        at = cursors.parse(cursor, task) if cursor else None
        framing = self._framing(caller, task)
        watch = await self._log.watch(task).__aenter__()
        try:
            if at is not None and at.incarnation == self._log.incarnation(task):
                await self._log.reach(task, at.position)  # the cursor may come from a region that is ahead
            fold = await self._visible(caller, task)
            if at is None:
                if fold.head.terminal:
                    raise UnsupportedOperationError("The task has ended: GetTask shows it")
                runs = self._follow(task, watch, fold, None, framing, until_interrupted=False)
            elif at.incarnation != self._log.incarnation(task) or not _may_stand(at, fold.head):
                SSE_RESUMES.inc("snapshot")
                runs = self._after_gap(task, watch, fold, framing)
            else:
                SSE_RESUMES.inc("hit")
                runs = self._replay(task, watch, fold, at, framing)
            return Updates(task, fold.head.context_id, runs, watch, self._log.staleness(task.log))
        except BaseException:
            await watch.close()
            raise

    # --- the write path -----------------------------------------------------------------------------------------------

    async def _begin(self, caller: Caller, agent: ServedAgent, request: SendMessageRequest) -> _Sent:
        """Put the message into the log, as a new task or onto its task, watched from before it was there."""
        _check_message(request.message, agent)
        _check_key(caller.idempotency_key)
        webhook, configuration = self._webhook(agent, request.configuration)
        if request.message.task_id:
            return await self._continue(caller, agent, request, webhook, _raw(configuration))
        if self._match_generation(request) is not None:
            text = "only a message to an existing task can ask for its generation"
            raise InvalidParamsError(violations=(("configuration.ifGenerationMatch", text),))
        log, key = self._log, caller.idempotency_key
        if key is None:
            home = log.home(caller.tenant, agent=agent.name)
            shard = os.urandom(1)[0] % home.shards if home.shards > 1 else 0
            new_id = task_id(home.log, shard, os.urandom(RANDOM_BYTES))
        else:
            home = log.home(caller.tenant, key, agent.name)
            new_id, shard = derived_task_id(key, _scope(caller, agent), home.log, home.keyed_shards)
        task = TaskRef(home.log, shard, agent.name, token(caller.tenant), new_id)
        context_id = request.message.context_id or f"c-{base64.urlsafe_b64encode(os.urandom(15)).decode()}"
        actor = Actor(tenant=caller.tenant, subject=caller.subject)
        known_by = _mark(caller, agent, request)
        event = Submitted(
            context_id=context_id,
            message=_with_ids(request.message, new_id, context_id),
            owner=actor,
            actor=actor,
            replies=agent.replies,
            protocol_version=caller.protocol_version,
            dialect=caller.dialect,
            configuration=_raw(configuration),
            metadata=_raw(request.metadata),
            extensions=caller.extensions,
            idempotency_key=known_by.key,
            body_hash=known_by.body,
        )
        hook = await self.push_configs.event(caller, task, webhook) if webhook is not None else None
        watch = await log.watch(task).__aenter__()
        try:
            fold, repeated = await self._create(task, event, self._submit(event, hook))
        except BaseException:
            await watch.close()
            raise
        return _Sent(task, watch, fold, repeated)

    def _submit(self, event: Submitted, hook: PushConfigSet | None) -> list[Entry]:
        return decide.submit(event, self._now(), hook, bounds=self._bounds)

    async def _create(self, task: TaskRef, event: Submitted, entries: list[Entry]) -> tuple[TaskFold, bool]:
        """The task as this event made it, or as it is if the event's idempotency key made it before.

        Raises:
            InvalidParamsError: the key made it, with another request.
            UnavailableError: the agent's queue is full; nothing was written.
        """
        for _ in range(limits.DECIDE_ATTEMPTS):
            refused: UnavailableError | None = None
            try:
                async with self._admission.admit(task):
                    fold = await create(self._log, self._writer, task, entries)
                if fold is not None:
                    return fold, False
                assert event.idempotency_key, "a random task id was taken"
            except UnavailableError as full:
                if not event.idempotency_key:
                    raise
                refused = full  # but a task that the key has made is no new one
            fold = await load(self._log, task)
            if refused is not None and not fold.head.revision:
                raise refused
            if fold.head.revision:
                known = decide.taken_before(fold.head, event)
                assert known, "a derived task id was taken without its key"
                if fold.head.removed:
                    raise TaskNotFoundError(
                        "The task of this key has ended and was removed; use a new key for a new task"
                    )
                return fold, True
        raise UnavailableError("The task is too busy; nothing was written, please retry")

    async def _continue(
        self,
        caller: Caller,
        agent: ServedAgent,
        request: SendMessageRequest,
        webhook: TaskPushNotificationConfig | None,
        configuration: Raw,
    ) -> _Sent:
        task = _task(caller, agent, request.message.task_id)
        watch = await self._log.watch(task).__aenter__()
        try:
            fold = await self._visible(caller, task)
            known_by = _mark(caller, agent, request)
            event = MessageReceived(
                message=_with_ids(request.message, task.task_id, fold.head.context_id),
                actor=Actor(tenant=caller.tenant, subject=caller.subject),
                configuration=configuration,
                metadata=_raw(request.metadata),
                extensions=caller.extensions,
                idempotency_key=known_by.key,
                body_hash=known_by.body,
            )
            said = request.message.context_id
            hook = await self.push_configs.event(caller, task, webhook) if webhook is not None else None
            match_generation = self._match_generation(request)
            written = await self._decide(
                task,
                fold,
                lambda: decide.message(
                    fold.head,
                    event,
                    said,
                    self._now(),
                    generation=match_generation,
                    webhook=hook,
                    bounds=self._bounds,
                ),
            )
        except BaseException:
            await watch.close()
            raise
        return _Sent(task, watch, fold, repeated=not written)

    def _match_generation(self, request: SendMessageRequest) -> int | None:
        configuration = request.configuration
        return configuration.if_generation_match if self._generations and configuration is not None else None

    def _webhook(
        self, agent: ServedAgent, configuration: SendMessageConfiguration | None
    ) -> tuple[TaskPushNotificationConfig | None, SendMessageConfiguration | None]:
        """The webhook that comes with a message, and the rest of the configuration: an event of its own holds it."""
        given = configuration.task_push_notification_config if configuration is not None else None
        if configuration is None or given is None:
            return None, configuration
        checked = self.push_configs.check(agent, given, "configuration.taskPushNotificationConfig.")
        return checked, msgspec.structs.replace(configuration, task_push_notification_config=None)

    async def _decide(self, task: TaskRef, fold: TaskFold, decision: Callable[[], list[Entry]]) -> bool:
        """See :func:`~.commit.commit`."""
        return await commit(self._log, self._writer, task, fold, decision)

    # --- the read path ------------------------------------------------------------------------------------------------

    async def _visible(self, caller: Caller, task: TaskRef) -> TaskFold:
        """The task, if this caller may see it."""
        return await load_for(self._log, task, caller.subject)

    async def _follow(
        self,
        task: TaskRef,
        watch: Watch,
        fold: TaskFold,
        length: int | None,
        framing: Framing,
        *,
        until_interrupted: bool,
    ) -> AsyncGenerator[Run]:
        """The Task, then its updates. Keeps the head only: a stream's memory does not grow with the task."""
        head = fold.head
        waiting: TaskFold | None = fold
        if head.exists:
            ended = head.terminal or (until_interrupted and head.phase is Phase.RESTING)
            yield Run([framing.task(head, await self._begin_json(task, fold, length, sent=until_interrupted))], ended)
            if ended:
                return
            waiting = None
        del fold
        async with aclosing(watch.after(head.position, head.revision)) as runs:
            async for records in runs:
                shown: list[Update] = []
                for record in records:
                    if waiting is not None and is_public(record):
                        # An agent that may reply with a bare Message now shows whether it does.
                        if _REPLY not in record.header.kinds:
                            begin = await self._begin_json(task, waiting, length, sent=until_interrupted)
                            shown.append(framing.task(waiting.head, begin))
                        waiting = None
                    shown += framing.updates(record, head.revision)
                    if waiting is not None:
                        waiting.apply(record)
                    else:
                        head.apply(record)
                ended = head.terminal or (until_interrupted and head.phase is Phase.RESTING)
                if shown or ended or not records:
                    yield Run(shown, ended, _newest(records))
                if ended:
                    return

    async def _replay(
        self, task: TaskRef, watch: Watch, fold: TaskFold, at: cursors.Cursor, framing: Framing
    ) -> AsyncGenerator[Run]:
        if fold.head.terminal and at.revision >= fold.head.revision:
            yield Run([], last=True)
            return
        revision = at.revision
        live = watch.after(at.position, at.revision)
        try:
            # What is in the log already is read, not waited for.
            async with aclosing(_replayed(self._log, task, at, live)) as records_runs:
                async for records in records_runs:
                    shown: list[Update] = []
                    ended = False
                    for record in records:
                        shown += framing.updates(record, revision)
                        revision = record.header.last_revision
                        ended = ended or _ends(record)
                    # Webhooks may have come and gone after the end: a cursor may stand behind the terminal event.
                    ended = ended or (fold.head.terminal and revision >= fold.head.revision)
                    if shown or ended or not records:
                        yield Run(shown, ended, _newest(records))
                    if ended:
                        return
        except Unreadable:
            SSE_RESUMES.inc("expired")
            logger.info("cursor stands nowhere any more", task_id=task.task_id, revision=at.revision)
            fold = await load(self._log, task)
            if not fold.head.exists:
                raise TaskNotFoundError from None  # removed while it was read
            async for run in self._after_gap(task, watch, fold, framing):
                yield run

    async def _after_gap(self, task: TaskRef, watch: Watch, fold: TaskFold, framing: Framing) -> AsyncGenerator[Run]:
        head = fold.head
        shown = await self._task_json(task, fold, None)
        ended = head.terminal
        yield Run([framing.task(head, shown, gap=True)], ended)
        if ended:
            return
        async with aclosing(_after(watch, fold)) as runs:
            async for records in runs:
                updates: list[Update] = []
                for record in records:
                    updates += framing.updates(record, head.revision)
                    head.apply(record)
                ended = head.terminal
                if updates or ended or not records:
                    yield Run(updates, ended, _newest(records))
                if ended:
                    return

    def _result(self, shown: bytes, task: TaskRef, fold: TaskFold) -> Result:
        head = fold.head
        return Result(shown, task.task_id, head.context_id, head.revision, self._log.staleness(task.log))

    def _framing(self, caller: Caller, task: TaskRef) -> Framing:
        return Framing(
            task,
            self._log.incarnation(task),
            replay=REPLAY_EXTENSION in caller.extensions,
            generations=self._generations,
        )

    async def _begin_json(self, task: TaskRef, fold: TaskFold, length: int | None, *, sent: bool) -> bytes:
        """The Task that a stream begins with; ``sent``: the stream is the answer to a message."""
        if not sent:
            return await self._task_json(task, fold, length)
        with _written(task):
            return await self._task_json(task, fold, length)

    async def _task_json(self, task: TaskRef, fold: TaskFold, length: int | None, *, patient: bool = False) -> bytes:
        note = await self._why_waiting(task, fold.head, patient=patient)
        whole, segments = await content(self._log, task, fold, segment_keys(fold, self._history))
        return render_task(whole, task.task_id, segments, length, note=note, bounds=self._history)

    async def _why_waiting(self, task: TaskRef, head: Head, *, patient: bool) -> Raw:
        """The status message of a task that nobody works on because there is no worker; shown and not recorded."""
        if head.state is not TaskState.SUBMITTED or head.phase is not Phase.QUEUED or task.log != self._log.name:
            return NOTHING  # who works in other regions is not known here
        since = await self._attendance.absent_since(task.agent, patient=patient)
        if since is None:
            return NOTHING
        text = (
            f"No worker of agent {task.agent!r} has been there since {timestamp_of(since)} or before. "
            "The task is kept, and runs when a worker comes."
        )
        return decide.agent_text(task.task_id, head.context_id, "no-worker", text)

    async def _response(self, task: TaskRef, fold: TaskFold, length: int | None) -> bytes:
        if fold.head.replied:
            return b'{"message":' + fold.content.reply + b"}"
        return b'{"task":' + await self._shown(task, fold, length) + b"}"

    async def _shown(self, task: TaskRef, fold: TaskFold, length: int | None, *, patient: bool = False) -> bytes:
        shown = await self._task_json(task, fold, length, patient=patient)
        return with_generation(shown, fold.head.generation) if self._generations else shown


@contextmanager
def _written(task: TaskRef) -> Generator[None]:
    """From here on the request has taken effect: that its answer cannot be made does not deny it.

    Raises:
        UnavailableError: says so, and what to look at.
    """
    try:
        yield
    except Unavailable as error:
        text = f"The request has taken effect, but task {task.task_id} cannot be read now: get it instead of retrying"
        raise UnavailableError(text) from error


def _require_shown(task: TaskRef, head: Head, caller: Caller) -> None:
    """There must be something to answer with to a caller whose wait was ended before its time."""
    if not head.exists:
        what = "wait" if caller.holds() else "credential"
        text = f"The {what} ended before the agent answered; task {task.task_id} goes on: get it instead of retrying"
        raise UnavailableError(text)


def _after(watch: Watch, fold: TaskFold) -> AsyncGenerator[list[Record]]:
    return watch.after(fold.head.position, fold.head.revision)


async def _replayed(
    log: Log, task: TaskRef, at: cursors.Cursor, live: AsyncGenerator[list[Record]]
) -> AsyncGenerator[list[Record]]:
    """Records after a cursor: those in the log, then those that come."""
    seen = at.revision
    stands = at.position == 0
    async for records in log.read(task, max(at.position, 1)):
        if not stands:
            # Another record may stand there by now: of a log that was taken over before this one reached the new
            # home, or restored from a backup, or of a task that was made again under its key.
            first = records[0]
            stands = first.position == at.position and first.header.revision <= seen <= first.header.last_revision
            if not stands:
                raise Unreadable("the cursor's record is gone")
        after = [r for r in records if r.header.last_revision > seen]
        if after and after[0].header.revision > seen + 1:
            raise Unreadable("the records after the cursor are gone")
        if after:
            seen = after[-1].header.last_revision
            yield after
    async with aclosing(live) as runs:
        async for records in runs:
            after = [r for r in records if r.header.last_revision > seen]
            if after:
                seen = after[-1].header.last_revision
            if after or not records:
                yield after


def _may_stand(at: cursors.Cursor, head: Head) -> bool:
    """Whether a cursor can be a place in this timeline: its end, or one before that, which reading on shows."""
    if at.revision >= head.revision:
        return (at.revision, at.position) == (head.revision, head.position)
    return at.position <= head.position


def _newest(records: list[Record]) -> int:
    return records[-1].header.times[-1] if records else 0


async def _just(update: Update) -> AsyncGenerator[Run]:
    yield Run([update], last=True)


def _answerable(head: Head, *, immediately: bool) -> bool:
    """Whether SendMessage can be answered with what there is."""
    return head.terminal or (head.exists and (immediately or _waits(head)))


def _waits(head: Head) -> bool:
    """Whether the task waits for its client: left to it, or interrupted and no message of its still to be read."""
    return head.phase is Phase.RESTING or (head.interrupted and head.phase in {Phase.RUNNING, Phase.SUSPENDED})


def _ends(record: Record) -> bool:
    return _REPLY in record.header.kinds or any(s in TERMINAL_STATES for s in public_states(record))


def _require_streaming(agent: ServedAgent) -> None:
    if not agent.card.capabilities.streaming:
        raise UnsupportedOperationError("This agent does not stream: use SendMessage and GetTask")


def _task(caller: Caller, agent: ServedAgent, raw_id: str) -> TaskRef:
    task = reference(raw_id, agent=agent.name, tenant=caller.tenant)
    if task is None:
        raise TaskNotFoundError
    return task


def _check_message(message: Message, agent: ServedAgent) -> None:
    """What the types cannot say (specification 4.1.4); names every field that is wrong."""
    violations: list[tuple[str, str]] = []
    if not 0 < len(message.message_id) <= limits.IDENTIFIER_CHARACTERS:
        violations.append(("message.messageId", f"must be 1 to {limits.IDENTIFIER_CHARACTERS} characters"))
    if message.role is not Role.USER:
        violations.append(("message.role", "must be ROLE_USER"))
    if not 0 < len(message.parts) <= limits.MESSAGE_PARTS:
        violations.append(("message.parts", f"must hold 1 to {limits.MESSAGE_PARTS} parts"))
    if len(message.context_id) > limits.IDENTIFIER_CHARACTERS:
        violations.append(("message.contextId", f"must be at most {limits.IDENTIFIER_CHARACTERS} characters"))
    if violations:
        raise InvalidParamsError(violations=tuple(violations))
    card = agent.card
    accepted = {*card.default_input_modes, *(mode for skill in card.skills for mode in skill.input_modes)}
    if not accepted or "*/*" in accepted:
        return
    for part in message.parts:
        if part.media_type and part.media_type.split(";")[0].strip() not in accepted:
            raise ContentTypeNotSupportedError(f"The agent does not take {part.media_type!r}")


def _check_key(key: str | None) -> None:
    if key is not None and not is_key(key):
        text = f"must be 1 to {limits.IDEMPOTENCY_KEY_CHARACTERS} visible ASCII characters"
        raise InvalidParamsError(violations=(("Idempotency-Key", text),))


def _scope(caller: Caller, agent: ServedAgent) -> KeyScope:
    return KeyScope(caller.tenant, caller.subject, agent.name)


def _mark(caller: Caller, agent: ServedAgent, request: SendMessageRequest) -> Mark:
    """What makes the message known again; empty without a key."""
    key = caller.idempotency_key
    return Mark("", "") if key is None else mark(key, _scope(caller, agent), request)


def _with_ids(message: Message, new_task_id: str, context_id: str) -> Raw:
    return Raw(encode(msgspec.structs.replace(message, task_id=new_task_id, context_id=context_id)))


def _raw(value: object) -> Raw:
    return NOTHING if value is None else Raw(encode(value))
