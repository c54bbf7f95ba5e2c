"""A worker: takes deliveries of its agents' tasks, claims turns, runs the agents, and writes what they say (turns 4).

One process runs many turns at once. Everything that decides is in ``timeline.decide``; here is the order in which
things must happen: read, fold, claim stored, agent, outputs, ending stored, acknowledgement.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, Final, assert_never

import structlog
from structlog.contextvars import bind_contextvars

from a2a_events import limits, tracing
from a2a_events.errors import Conflict, LogError, Unavailable, Unreadable
from a2a_events.log.append import DESTINATION
from a2a_events.log.patience import patiently
from a2a_events.log.port import AgentEntry, Dispatch, Handle, Log, Notice, Wakeup
from a2a_events.metrics.catalog import (
    QUEUE_WAIT_SECONDS,
    REDELIVERIES,
    TASK_SECONDS,
    TASKS_ACTIVE,
    WORKER_FENCED,
    WORKER_LEASES,
)
from a2a_events.model import TaskState
from a2a_events.runtime import dead_letters, stacks
from a2a_events.runtime.agent import Agent
from a2a_events.runtime.commit import drafted, state_label, store
from a2a_events.runtime.load import content, load
from a2a_events.runtime.turn import Suspended, Turn, left_by, message_of, turn_of
from a2a_events.runtime.turn_writer import Fenced, TurnWriter
from a2a_events.runtime.waiting_room import Waiting, WaitingRoom
from a2a_events.timeline import decide, reasons
from a2a_events.timeline.bounds import TaskBounds
from a2a_events.timeline.decide import (
    FAIL,
    Answer,
    Claim,
    Delivery,
    Ending,
    Fault,
    Leaving,
    LetGo,
    Outcome,
    Ownership,
    Release,
    Settled,
    Suspend,
    Verdict,
)
from a2a_events.timeline.events import MessageReceived, Submitted, TurnNudged, TurnReleased
from a2a_events.timeline.fold import Pending, Phase, TaskFold
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record, Writer
from a2a_events.timeline.render import segment_keys
from a2a_events.timeline.render import task as render_task
from a2a_events.tracing import Span

STEWARD_SECONDS: Final = 0.25
"""How often running turns are looked after; a turn shorter than this costs no subscription and no check."""

logger = structlog.get_logger(__name__)


class Unfit(Exception):
    """An agent that does not stop lives on in this process: end or replace it. The worker has drained."""


class Worker:
    """Runs agents until :meth:`stop`, or until an agent does not stop when it must.

    Args:
        log: the log.
        agents: what to serve.
        writer: names this process in records; the instance must be unique.
        turns: how many to run at once.
        ack_wait_seconds: as provisioned; signs of life are sent three times as often.
        drain_seconds: what running turns get when the worker is stopped.
        bounds: of each task.
    """

    def __init__(
        self,
        log: Log,
        agents: Sequence[Agent],
        writer: Writer,
        *,
        turns: int = limits.TURNS_PER_WORKER,
        ack_wait_seconds: float = limits.ACK_WAIT_SECONDS,
        drain_seconds: float = limits.DRAIN_SECONDS,
        bounds: TaskBounds | None = None,
    ) -> None:
        self._log = log
        self._bounds = bounds or TaskBounds()
        self._agents = {agent.name: agent for agent in agents}
        self._writer = writer
        self._turns = turns
        self._in_progress_seconds = ack_wait_seconds / 3
        self._room: WaitingRoom[Agent] = WaitingRoom(turns, ack_wait_seconds)
        self._drain_seconds = drain_seconds
        self._dispatches: list[Dispatch] = []
        self._running: dict[asyncio.Task[None], _Running | None] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._unfit = ""
        self.ready = asyncio.Event()
        """Set once the worker takes deliveries, and has tried to announce its agents."""

    async def run(self) -> None:
        """Serve until :meth:`stop` was called and running turns have ended or the drain time is over.

        Raises:
            LogError: the log's consumers cannot be made.
            Unfit: an agent was told to stop, did not, and cannot be made to: its turn was ended without it, no more
                deliveries were taken, and the other turns were let go as by :meth:`stop`.
        """
        with ExitStack() as gauges:
            running = self._running
            gauges.callback(TASKS_ACTIVE.read_by(lambda: {(): sum(one is not None for one in list(running.values()))}))
            gauges.callback(WORKER_LEASES.read_by(lambda: {(): len(running) + len(self._room)}))
            await self._run()

    async def _run(self) -> None:
        for agent in self._agents.values():
            dispatch = await patiently(partial(self._log.follow, agent.name), f"work for {agent.name}")
            self._dispatches.append(dispatch)
            self._spawn(self._take(agent, dispatch))
            wakeups = await patiently(partial(self._log.wakeups, agent.name), f"wake-ups for {agent.name}")
            self._spawn(self._wake(agent, wakeups))
        self._spawn(self._steward())
        self._spawn(self._keep_waiting())
        self._grant()
        self._spawn(self._announce())
        await self._stopping.wait()
        await self._drain()
        if self._unfit:
            raise Unfit(self._unfit)

    def stop(self) -> None:
        """Take no more deliveries and let running turns end (turns 4.8). Returns at once."""
        self._stopping.set()

    def _recycle(self, reason: str) -> None:
        """This process cannot be trusted any more: let go of it as in :meth:`stop`."""
        self._unfit = self._unfit or reason
        self.stop()

    async def _drain(self) -> None:
        for dispatch in self._dispatches:
            await dispatch.close()
        what = "replaced because another agent did not stop" if self._unfit else "stopped"
        if self._running:
            logger.info("worker draining", turns=len(self._running))
            await asyncio.wait(self._running, timeout=min(limits.HANDOVER_SECONDS, self._drain_seconds))
        for running in list(self._running.values()):
            if running is not None:
                running.hand_over(f"its worker was {what}")
        if self._running:
            await asyncio.wait(self._running, timeout=max(0.0, self._drain_seconds - limits.HANDOVER_SECONDS))
        for running in list(self._running.values()):
            if running is not None:
                running.give_up(reasons.worker_gone(what))
        if self._running:
            grace = max((agent.cancel_grace_seconds for agent in self._agents.values()), default=0.0)
            await asyncio.wait(self._running, timeout=grace + limits.APPEND_PATIENCE_SECONDS)
        for task in [*self._running, *self._background]:
            task.cancel()
        await asyncio.gather(*self._running, *self._background, return_exceptions=True)
        logger.info("worker stopped")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(_report)

    def _grant(self) -> None:
        free = max(0, self._turns - len(self._running))
        ahead = 0 if free else self._room.appetite(time.monotonic())
        for dispatch in self._dispatches:
            dispatch.grant(free, ahead)

    async def _take(self, agent: Agent, dispatch: Dispatch) -> None:
        async for handle in dispatch:
            if handle.count > 1:
                REDELIVERIES.inc()
            self._room.enter(agent, handle, time.monotonic())
            self._serve_next()

    def _serve_next(self) -> None:
        """Run what waits, as far as there are turns, and take more (ADR 0019)."""
        if self._stopping.is_set():
            return
        now = time.monotonic()
        while len(self._running) < self._turns and (waiting := self._room.next(now)) is not None:
            task = asyncio.get_running_loop().create_task(self._serve_waiting(waiting, now))
            self._running[task] = None
            task.add_done_callback(partial(self._done, waiting.tenant))
        self._grant()

    async def _serve_waiting(self, waiting: Waiting[Agent], now: float) -> None:
        # Whoever claims gives the first sign a while later: the broker has to begin to count anew.
        if now - waiting.signed > STEWARD_SECONDS and not await waiting.handle.in_progress():
            return
        await self._serve(waiting.agent, waiting.handle)

    def _done(self, tenant: str, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._room.ended(tenant, time.monotonic())
        _report(task)
        self._serve_next()

    async def _keep_waiting(self) -> None:
        """Signs of life for the deliveries that this worker is going to get to."""
        while True:
            await asyncio.sleep(self._in_progress_seconds / 4)
            self._room.leave([w for w in self._room.due(time.monotonic()) if not await w.handle.in_progress()])
            if not self._stopping.is_set():
                self._grant()

    async def _announce(self) -> None:
        while True:
            await asyncio.gather(*(self._announce_once(agent) for agent in self._agents.values()))
            if not self.ready.is_set():
                self.ready.set()
                logger.info("worker ready", agents=sorted(self._agents), instance=self._writer.instance)
            await asyncio.sleep(limits.AGENT_HEARTBEAT_SECONDS)

    async def _announce_once(self, agent: Agent) -> None:
        entry = AgentEntry(
            tenant=agent.tenant,
            name=agent.name,
            card=agent.card_json(),
            replies=agent.replies,
            policy=agent.policy,
            version=agent.card.version,
        )
        try:
            await self._log.announce(entry, self._writer.instance)
        except LogError as error:
            logger.warning("agent not announced", agent=agent.name, error=str(error))

    async def _wake(self, agent: Agent, wakeups: Any) -> None:
        async for wakeup in wakeups:
            try:
                await self._expire(agent, wakeup)
            except LogError as error:
                logger.warning("wake-up not handled", task_id=wakeup.task.task_id, error=str(error))

    async def _expire(self, agent: Agent, wakeup: Wakeup) -> None:
        reason = f"no input came within {agent.deadlines.input_seconds:g} seconds"
        while True:
            fold = await load(self._log, wakeup.task)
            entries = decide.wake(fold.head, wakeup.task.task_id, wakeup.revision, reason, _now())
            if not entries:
                await self._arm_again(agent, wakeup.task, fold)
                break
            made = drafted(self._log, self._writer, wakeup.task, fold.head, entries)
            woken = fold.head.phase is Phase.SUSPENDED
            try:
                await store(self._log, wakeup.task, fold, made)
                logger.info(
                    "turn woken" if woken else "task expired",
                    task_id=wakeup.task.task_id,
                    reason=None if woken else reason,
                )
                break
            except Conflict:
                continue
        await wakeup.acknowledge()

    async def _serve(self, agent: Agent, handle: Handle) -> None:
        """One delivery, from reading to acknowledgement."""
        task = handle.task
        bind_contextvars(task_id=task.task_id, agent=agent.name)
        try:
            with _span(agent, handle):
                await self._act_on(agent, handle)
        except Fenced:
            WORKER_FENCED.inc()
            logger.warning("fenced", task_id=task.task_id, agent=agent.name)
        except Unreadable as error:
            logger.error("unreadable task", task_id=task.task_id, delivered=handle.count, error=str(error))
            if handle.count >= limits.UNREADABLE_DELIVERIES:
                await dead_letters.put_unreadable(self._log, task, handle.count, str(error), _now())
        except LogError as error:
            # Not acknowledged: the delivery comes back.
            logger.warning("turn given up", task_id=task.task_id, error=str(error) or type(error).__name__)

    async def _act_on(self, agent: Agent, handle: Handle) -> None:
        task = handle.task
        fold = await self._fold_for(handle)
        delivery = _delivery(handle)
        graced = False
        while True:
            verdict: Verdict = decide.on_delivery(fold.head, delivery, agent.terms, task.task_id, _now(), graced=graced)
            match verdict:
                case Settled():
                    if handle.count > 1:
                        await self._arm(agent, task, fold)
                    await handle.acknowledge()
                    return
                case LetGo():
                    return
                case Answer():
                    # An owner looks at the log once in this time even if it was not told of the nudge.
                    for _ in range(2):
                        await asyncio.sleep(self._in_progress_seconds)
                        await handle.in_progress()
                    fold, graced = await load(self._log, task), True
                case Claim():
                    running = _Running(
                        self._log, self._writer, self._spawn, self._recycle, agent, handle, fold, self._bounds
                    )
                    try:
                        await running.writer.store_claim(verdict)
                    except Conflict:
                        fold = await load(self._log, task)
                        continue
                    if handle.count == 1:
                        QUEUE_WAIT_SECONDS.observe(_since(handle))
                    if verdict.runs:
                        current = asyncio.current_task()
                        if current is not None:
                            self._running[current] = running
                        if self._stopping.is_set():
                            running.hand_over("its worker was stopped")
                        logger.info(
                            "turn begun",
                            task_id=task.task_id,
                            context_id=fold.head.context_id,
                            agent=agent.name,
                            epoch=verdict.epoch,
                            attempt=verdict.attempt,
                            delivered=handle.count,
                        )
                        await running.run()
                    else:
                        logger.warning(
                            "turn ended without running",
                            task_id=task.task_id,
                            epoch=verdict.epoch,
                            attempt=verdict.attempt,
                            state=fold.head.state.value,
                        )
                    if fold.head.terminal:
                        TASK_SECONDS.observe(_since(handle), state_label(fold.head.state))
                    await self._arm(agent, task, fold)
                    if decide.settled(fold.head, delivery):
                        await handle.acknowledge()
                    return
                case _:
                    assert_never(verdict)

    async def _fold_for(self, handle: Handle) -> TaskFold:
        """A fold that contains the delivered record (turns 4.1); of that record alone if it is the task's first.

        Whatever else is in the log then refuses the claim, so a fresh task costs no read.
        """
        record = handle.record
        if handle.count == 1 and record.header.revision == 1:
            return TaskFold.of([record])
        return await load(self._log, handle.task)

    async def _arm(self, agent: Agent, task: TaskRef, fold: TaskFold) -> None:
        """A task rests: see that somebody will end it when its client never comes back, or go on when it is time.

        A task was given up: see that operators find it.
        """
        head = fold.head
        if head.phase is Phase.SUSPENDED:
            await self._log.wake_at(task, head.revision, head.until)
        elif head.phase is Phase.RESTING:
            due = _now() + int(agent.deadlines.input_seconds * 1000)
            await self._log.wake_at(task, head.revision, due)
        elif head.dead_letter:
            await dead_letters.put(self._log, task, head)

    async def _arm_again(self, agent: Agent, task: TaskRef, fold: TaskFold) -> None:
        """A wake-up was void: the task no longer waits for it, or it replaced the one that the task waits for.

        The log keeps one a task. A worker that hears late that its turn has ended asks for its own, although others
        have gone on with the task since.
        """
        if fold.head.phase in {Phase.SUSPENDED, Phase.RESTING}:
            await self._arm(agent, task, fold)

    async def _steward(self) -> None:
        """Looks after turns that take longer: interest, signs of life, deadlines."""
        while True:
            await asyncio.sleep(STEWARD_SECONDS)
            self._look_after()

    def _look_after(self) -> None:
        for running in list(self._running.values()):
            if running is not None and running.attention(self._in_progress_seconds):
                self._spawn(running.attend())


class _Running:
    """One delivery's turns while this process owns them."""

    def __init__(  # noqa: PLR0917 -- made in one place
        self,
        log: Log,
        writer: Writer,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        recycle: Callable[[str], None],
        agent: Agent,
        handle: Handle,
        fold: TaskFold,
        bounds: TaskBounds,
    ) -> None:
        self._log = log
        self._spawn = spawn
        self._recycle = recycle
        self._agent = agent
        self._handle = handle
        self._started = time.monotonic()
        self._signed = self._started
        self._attending = False
        self._notice: Notice | None = None
        self._ended = False
        self._over: Outcome | Release | None = None
        """What its worker has decided for the agent."""
        self._interrupted = asyncio.Event()
        """Set when a pause between two attempts is to end early."""
        self._turn: Turn | None = None
        self._given = 0
        self._offered = 0
        self._offering: Turn | None = None
        """The turn that messages are being read for."""
        self._agent_task: asyncio.Task[None] | None = None
        self._positions: list[int] = []
        """Of the messages that were offered and not yet taken, in order."""
        self._stopping = False
        self._agent_over: asyncio.Future[None] | None = None
        """Done when the agent has stopped, or is not waited for any longer."""
        self._sign_due = False
        self._attempt = 0
        self.writer = TurnWriter(
            log,
            handle.task,
            fold,
            writer,
            linger_seconds=agent.linger_seconds,
            bounds=bounds,
        )

    async def run(self) -> None:
        """Run the agent, and again while messages came that it was not given, until the task rests or ends.

        Raises:
            Fenced: the turn is somebody else's; nothing more was written.
            LogError: the log could not be written.
        """
        nobody, unheard = self.writer.on_foreign, self.writer.on_full
        self.writer.on_foreign, self.writer.on_full = self._on_foreign, self.give_up
        try:
            while True:
                leaving = self.writer.fitting(await self._run_agent())
                ending = await self.writer.end(leaving, lambda: self._given, self._agent.terms)
                self._report(leaving)
                if not ending.next_epoch:
                    return
                await self._pause(ending)
        finally:
            # A turn may hold megabytes; without what refers back to us they go now, and not with some collection.
            self.writer.on_foreign, self.writer.on_full = nobody, unheard
            if self._agent_task is not None:
                self._agent_task.cancel()
            self._turn = self._agent_task = None
            self._ended = True
            notice, self._notice = self._notice, None
            if notice is not None:
                await notice.close()

    async def _pause(self, ending: Ending) -> None:
        """Before another attempt, unless something happens to the task.

        Raises:
            Fenced: somebody else has the turn.
            LogError: the log does not say.
        """
        self._turn = self._agent_task = None
        tries = ending.attempt - 1
        if tries and not self.writer.fold.head.cancel:
            pause = min(limits.RETRY_PAUSE_SECONDS * 2 ** (tries - 1), limits.RETRY_LONGEST_PAUSE_SECONDS)
            self._started = self.writer.last_said = time.monotonic()
            self._interrupted.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._interrupted.wait()
            await self.writer.look()  # the turn may have been lost meanwhile

    async def _run_agent(self) -> Leaving:
        self._started = self.writer.last_said = time.monotonic()
        self._attempt = self.writer.fold.head.attempt
        if self._over is not None:
            return self._over
        self._stopping = False
        loop = asyncio.get_running_loop()
        turn = self._turn = await self._make_turn()
        over = self._agent_over = loop.create_future()
        task = self._agent_task = loop.create_task(
            self._call(turn, self._offered), name=f"agent {self._agent.name}, task {self._handle.task.task_id}"
        )
        task.add_done_callback(lambda done: _finish(over, done))
        self._offer_newer()
        if self._decided() is not None:
            task.cancel()  # decided while the turn was being made ready
        elif self.writer.fold.head.cancel:
            self._ask_to_stop()
        await over
        turn.close()
        if self.writer.ownership is Ownership.FENCED:
            raise Fenced
        decided = self._decided()
        if isinstance(decided, Outcome) or (decided is not None and not _returned(task)):
            return decided
        if not task.done() or task.cancelled():
            stopped = Outcome(TaskState.CANCELED, reason="the agent was canceled")
            return stopped if self._stopped() else left_by(turn, asyncio.CancelledError(), self.writer.fold.head)
        error = task.exception()
        if isinstance(error, Fenced | LogError):
            raise error
        if error is not None and not isinstance(error, Suspended):
            self._log_error(error)
        return left_by(turn, error, self.writer.fold.head)

    def _decided(self) -> Outcome | Release | None:
        return self._over

    def _stopped(self) -> bool:
        return self._stopping

    async def _call(self, turn: Turn, given: int) -> None:
        self._given = given  # and not before: a cancel may come first, and then the agent never gets to see them
        try:
            await self._agent.handler(turn)
        finally:
            self.writer.hold()

    def _log_error(self, error: BaseException) -> None:
        logger.error(
            "agent raised",
            task_id=self._handle.task.task_id,
            agent=self._agent.name,
            error=type(error).__name__,
            exc_info=(type(error), error, error.__traceback__),
        )

    async def _make_turn(self) -> Turn:
        fold = self.writer.fold
        given = fold.head.pending
        self._positions.clear()
        self._given = fold.head.handled
        self._offered = max((p.position for p in given), default=fold.head.handled)
        asked = [await self._message(p) for p in given]
        log, task_id = self._log, self._handle.task.task_id
        seen = await self.writer.begin(self._agent.policy)
        whole, segments = await content(log, self._handle.task, seen, segment_keys(seen))
        shown = render_task(whole, task_id, segments)
        turn = turn_of(fold.head, asked, shown, task_id=task_id, policy=self._agent.policy, reports=self.writer)
        turn.on_taken(self._taken)
        return turn

    async def _message(self, pending: Pending) -> Submitted | MessageReceived:
        position = pending.position
        record: Record | None = self._handle.record if self._handle.record.position == position else None
        if record is None:
            record = await self._log.first_after(self._handle.task, position - 1)
        if record is None or record.position != position:
            raise Unreadable(f"the message at {position} is gone")
        event = record.events()[pending.revision - record.header.revision]
        if not isinstance(event, Submitted | MessageReceived):
            raise Unreadable(f"no message at {position}")
        return event

    # --- what others wrote --------------------------------------------------------------------------------------------

    def _on_foreign(self) -> None:
        """Records of others were folded in, or the writer failed: tell the agent what it needs to know."""
        if self._ended:
            return
        self._interrupted.set()
        if self.writer.ownership is Ownership.FENCED or self.writer.failed:
            self._stop(at_once=True)
            return
        if self.writer.fold.head.cancel:
            self._ask_to_stop()
        self._offer_newer()

    def _offer_newer(self) -> None:
        if self._turn is not None and self._offering is not self._turn and self._next_offer():
            self._offering = self._turn
            self._spawn(self._offer(self._turn))

    def _next_offer(self) -> Pending | None:
        """The first message that the turn has not been offered."""
        return next((p for p in self.writer.fold.head.pending if p.position > self._offered), None)

    async def _offer(self, turn: Turn) -> None:
        """What came during the turn, strictly in order: an agent that takes a message covers those before it."""
        try:
            while turn is self._turn and (pending := self._next_offer()):
                try:
                    event = await self._message(pending)
                except Unavailable:
                    await asyncio.sleep(STEWARD_SECONDS)
                    continue
                if turn is self._turn:
                    self._offered = pending.position
                    self._positions.append(pending.position)
                    turn.offer(message_of(event))
        finally:
            if self._offering is turn:
                self._offering = None

    def _taken(self) -> None:
        self._given = self._positions.pop(0)

    def _ask_to_stop(self) -> None:
        """A cancel is in the log: the agent gets its grace time, then the turn ends without it (turns 6)."""
        if self._stopping or self._turn is None:
            return
        self._turn.cancel()
        self._stop(at_once=not self._turn.cooperative)

    def _stop(self, *, at_once: bool) -> None:
        if self._stopping:
            return
        self._stopping = True
        loop = asyncio.get_running_loop()
        grace = self._agent.cancel_grace_seconds
        if at_once and self._agent_task is not None:
            self._agent_task.cancel()
        else:
            loop.call_later(grace * 0.8, self._force)
        loop.call_later(grace, self._abandon, self._agent_task)

    def _force(self) -> None:
        if self._agent_task is not None:
            self._agent_task.cancel()

    def _abandon(self, task: asyncio.Task[None] | None) -> None:
        if task is not None and not task.done() and self._agent_over is not None and not self._agent_over.done():
            logger.error(
                "agent does not stop",
                task_id=self._handle.task.task_id,
                agent=self._agent.name,
                grace_seconds=self._agent.cancel_grace_seconds,
                stack=stacks.of_task(task, self._handle.task.task_id),
            )
            _finish(self._agent_over)
            self._recycle(f"the agent {self._agent.name} did not stop")

    # --- the steward --------------------------------------------------------------------------------------------------

    def attention(self, in_progress_seconds: float) -> bool:
        """Whether something is due."""
        if self._attending:
            return False
        now = time.monotonic()
        deadlines = self._agent.deadlines
        if now - self._started > deadlines.turn_seconds:
            self.give_up(reasons.took_longer(deadlines.turn_seconds))
        elif now - self.writer.last_said > deadlines.idle_seconds:
            self.give_up(reasons.said_nothing(deadlines.idle_seconds))
        self._sign_due = now - self._signed >= in_progress_seconds
        return self._sign_due or self._notice is None

    async def attend(self) -> None:
        """Interest in what others write, and a sign of life while the log says that we own the turn (turns 4.7)."""
        self._attending = True
        try:
            if self._notice is None:
                notice = await self._log.notice(self._handle.task, self._noticed)
                if self._ended:
                    await notice.close()
                    return
                self._notice = notice
            await self.writer.look()
            if self._sign_due:
                await self._handle.in_progress()
                self._signed = time.monotonic()
        except Fenced:
            self._on_foreign()
        except LogError as error:
            logger.info("turn not looked after", task_id=self._handle.task.task_id, error=str(error))
        finally:
            self._attending = False

    def _noticed(self) -> None:
        self._spawn(self._look())

    async def _look(self) -> None:
        with suppress(LogError):
            try:
                await self.writer.look()
            except Fenced:
                self._on_foreign()

    def give_up(self, reason: str) -> None:
        """End the turn FAILED, whatever the agent does."""
        if self._over is None:
            task_id = self._handle.task.task_id
            self._over = decide.failure(self.writer.fold.head, task_id, reason, Fault.GIVEN_UP)
            self._interrupted.set()
            self._stop(at_once=True)

    def hand_over(self, reason: str) -> None:
        """Let somebody else go on with the turn, if its agent allows that: what was said is kept (turns 4.8)."""
        if self._over is None and self._agent.policy != FAIL:
            self._over = Release(reason)
            self._interrupted.set()
            self._stop(at_once=True)

    def _report(self, leaving: Leaving) -> None:
        head = self.writer.fold.head
        logger.info(
            "turn",
            task_id=self._handle.task.task_id,
            context_id=head.context_id,
            agent=self._agent.name,
            op="turn",
            state=head.state.value,
            epoch=self.writer.epoch,
            attempt=self._attempt,
            revision=head.revision,
            reason=None if isinstance(leaving, Suspend) else leaving.reason or None,
            dur_ms=round((time.monotonic() - self._started) * 1000, 1),
        )


def _returned(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _finish(over: asyncio.Future[None], agent: asyncio.Task[None] | None = None) -> None:
    if agent is not None and not agent.cancelled():
        agent.exception()  # taken here: that of an agent that was fenced interests nobody
    if not over.done():
        over.set_result(None)


def _delivery(handle: Handle) -> Delivery:
    record = handle.record
    epoch = 0
    if set(record.header.kinds) & {"n", "r"}:
        epoch = next((e.epoch for e in record.events() if isinstance(e, TurnNudged | TurnReleased)), 0)
    return Delivery(record.position, handle.count, record.header.kinds, epoch)


def _since(handle: Handle) -> float:
    """Seconds since what was delivered was said, by two clocks that may differ."""
    return max(0.0, _now() - handle.record.header.times[0]) / 1000


def _span(agent: Agent, handle: Handle) -> Span:
    """The turn's; a child of what asked for it, or linked to that where it is long ago."""
    asked = handle.record.trace
    if not tracing.recording():
        return tracing.span("consumer", "", parent=asked)
    task = handle.task
    attributes: dict[str, str | int] = {
        "messaging.system": "nats",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": f"log.{task.log}.{task.shard}",
        "messaging.destination.template": DESTINATION,
        "messaging.consumer.group.name": f"worker-{agent.name}",
        "messaging.message.id": handle.record.header.record_id,
        "messaging.nats.delivery_count": handle.count,
        "a2a.task.id": task.task_id,
        "a2a.agent": agent.name,
    }
    parent = asked if _since(handle) < limits.TRACE_SECONDS else ""
    return tracing.span("consumer", f"process {agent.name}", attributes, parent=parent, links=[asked])


def _now() -> int:
    return int(time.time() * 1000)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error(
            "background work failed", error=type(error).__name__, exc_info=(type(error), error, error.__traceback__)
        )
