"""What an agent's author holds while working on one message: the input, and ways to report.

Reports are durable in the order they were made, and none is shown before it is. A report returns as soon as it is
queued (bounded, so a fast agent waits for the log at last); :meth:`Turn.flush` waits until everything said so far is
stored. Ordering is the library's job: an ending comes after everything said before it, and nothing can be said after
it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import inspect
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, overload

import msgspec
from msgspec import UNSET, Raw, Struct

from a2a_events import limits, tracing
from a2a_events.log.port import Notes
from a2a_events.model import (
    INTERRUPTED_STATES,
    TERMINAL_STATES,
    Artifact,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    Task,
    TaskState,
    encode,
)
from a2a_events.runtime.in_thread import in_thread
from a2a_events.runtime.notebook import Notebook
from a2a_events.timeline import reasons
from a2a_events.timeline.decide import FAIL, RERUN, Fault, Leaving, Outcome, Rest, Suspend, failure
from a2a_events.timeline.events import NOTHING, Actor, MessageReceived, Submitted
from a2a_events.timeline.fold import Head
from a2a_events.timeline.ids import is_name

P = ParamSpec("P")
T = TypeVar("T")
Content: TypeAlias = str | Part | Message | Sequence[Part] | dict[str, Any]
"""What a report may be given as: a text, a part, several, a whole message, or a dict for one data part."""


class TurnOver(RuntimeError):
    """Something was reported after the end of the turn, and was not recorded.

    A bug of the agent; or it did not stop when it was told to, and its turn was ended without it.
    """


class OutputTooLarge(ValueError):
    """One report is over the log's ``content_bytes``; it was not recorded. The agent may report it in pieces."""


class TaskFull(OutputTooLarge):
    """The task, or an artifact of it, would be larger than it may be. The task ends FAILED."""


class Suspended(BaseException):
    """Carries a suspended agent out of its function, as ``CancelledError`` does a canceled one: let it pass."""

    def __init__(self, until: int) -> None:
        super().__init__("the turn is suspended")
        self.until = until
        """Milliseconds."""


def check_size(report_bytes: int, largest: int) -> None:
    """Refuse a report that no record can hold.

    Raises:
        OutputTooLarge: says so.
    """
    if report_bytes > largest:
        raise OutputTooLarge(f"one report of {report_bytes} bytes is over the limit of {largest}; report it in pieces")


class Recollection(Struct, frozen=True, omit_defaults=True):
    """What a context remembers: steps of its newest turn that remembered any, in whichever task that was."""

    version: int = 0
    """Which it is; for :meth:`Turn.remember`."""
    steps: dict[str, Raw] = {}
    """Their results as JSON, by name; empty if nothing was remembered, or its task was removed since."""


class Reports(Protocol):
    """Where a turn's reports go, and what it may know (``turn_writer``)."""

    report_bytes: int
    """Largest report."""

    async def say_status(self, state: TaskState, message: Raw, metadata: Raw = NOTHING) -> None:
        """Record a status; ``metadata`` is the update's, and goes into the task's too."""
        ...

    async def say_artifact(
        self, artifact: Artifact, metadata: Raw = NOTHING, *, append: bool, last_chunk: bool
    ) -> None:
        """Record an artifact or a chunk of one; ``metadata`` is the update's."""
        ...

    async def say_step(self, name: str, result: Raw) -> None:
        """Record the result of a step, and wait until it is stored."""
        ...

    async def say_timer(self, name: str, due: int) -> None:
        """Record a timer."""
        ...

    async def result(self, name: str) -> Raw | None:
        """The result of a step, if an earlier run of this turn has recorded it."""
        ...

    async def due(self, name: str) -> int | None:
        """When a timer is due that an earlier run of this turn has set, in milliseconds."""
        ...

    async def recall(self) -> Recollection:
        """What the context remembers."""
        ...

    async def remember(self, steps: Sequence[str], since: int) -> bool:
        """Have the context remember steps of this turn, if nothing else was remembered since a version."""
        ...

    async def notes(self, name: str) -> Notes:
        """What the agent has noted in the task's context."""
        ...

    async def note(self, name: str, content: bytes, position: int, *, anew: bool) -> int:
        """Add to it, or replace it, as ``port.Log.note`` does; while the turn is this worker's."""
        ...

    def now(self) -> int:
        """The time that timers are judged by, in milliseconds."""
        ...

    async def flush(self) -> None:
        """Wait until everything said is stored."""
        ...


class Turn:
    """One message's worth of work.

    Attributes:
        message: the message to work on; the newest one where several wait.
        messages: all messages that this turn was given, oldest first.
        task: the task before this turn, history and artifacts included.
        attempt: 1, or more when earlier attempts failed: their workers disappeared, or the agent raised.
        configuration: how the caller wants the answer.
        metadata: what the caller sent beside the message.
        extensions: URIs of the A2A extensions that are active for the message.
        actor: who sent the message.
        state_before: where the task stood before this turn: SUBMITTED for a new one.
    """

    def __init__(
        self,
        *,
        task: bytes,
        messages: Sequence[Message],
        attempt: int,
        configuration: SendMessageConfiguration,
        metadata: dict[str, Any],
        extensions: tuple[str, ...],
        reports: Reports,
        task_id: str,
        context_id: str,
        revision: int,
        policy: str,
        actor: Actor | None = None,
        state_before: TaskState = TaskState.SUBMITTED,
    ) -> None:
        self.messages = list(messages)
        self.actor = actor or Actor()
        self.state_before = state_before
        self.attempt = attempt
        self.configuration = configuration
        self.metadata = metadata
        self.extensions = extensions
        self.task_id = task_id
        self.context_id = context_id
        self._task = task
        self._decoded: Task | None = None
        self._reports = reports
        self._canceled = asyncio.Event()
        self._arrived = asyncio.Event()
        self._waiting: list[Message] = []
        self._revision = revision
        """Of the turn's first claim: the same in all its attempts."""
        self._policy = policy
        self._named: Counter[str] = Counter()
        self._artifacts = 0
        self._on_taken: Callable[[], None] = lambda: None
        self._closed = False
        self.outcome: Outcome | Rest | None = None
        self.cooperative = False
        """Whether the agent watches for cancellation itself; else its coroutine is canceled."""

    # --- input --------------------------------------------------------------------------------------------------------

    @property
    def message(self) -> Message:
        """The message to work on."""
        return self.messages[-1]

    @property
    def text(self) -> str:
        """The text parts of :attr:`message`, joined by newlines."""
        return "\n".join(part.text for part in self.message.parts if isinstance(part.text, str))

    @property
    def data(self) -> Any:
        """The content of the first data part of :attr:`message`, or None."""
        return next((part.data for part in self.message.parts if part.data is not UNSET), None)

    @property
    def task(self) -> Task:
        """The task as it was when the turn began, with history and artifacts."""
        if self._decoded is None:
            self._decoded = _task_decoder.decode(self._task)
        return self._decoded

    @property
    def canceled(self) -> bool:
        """Whether the client wants the task to stop; the agent should return soon, what it then says is kept.

        An agent that never looks is stopped by ``asyncio.CancelledError``; one that has looked gets its grace time
        first.
        """
        self.cooperative = True
        return self._canceled.is_set()

    async def wait_canceled(self) -> None:
        """Wait until the client wants the task to stop. See :attr:`canceled`."""
        self.cooperative = True
        await self._canceled.wait()

    async def receive(self) -> Message:
        """Wait for a further message to the task and take it; it then belongs to this turn."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        return self._take()

    def receive_nowait(self) -> Message | None:
        """A further message, if one has arrived; taken as by :meth:`receive`."""
        return self._take() if self._waiting else None

    # --- work that blocks ---------------------------------------------------------------------------------------------

    async def in_thread(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function that blocks, in a thread of its own; other turns go on meanwhile.

        Context variables are kept. The function reports with a ``ThreadTurn`` if it is given one; to the idle deadline
        it is silent otherwise. A thread cannot be stopped from outside, so a cancel takes effect when the function
        makes its next report, or returns. One that does neither within the agent's ``cancel_grace_seconds`` makes
        its turn end without it, and its process be replaced.

        Args:
            work: the function.
            args: its arguments.
            kwargs: its keyword arguments.

        Raises:
            CancelledError: the turn is to stop, and the function has returned.
            BaseException: what the function raised.
        """
        return await in_thread(self.task_id, work, *args, **kwargs)

    @property
    def trace_headers(self) -> dict[str, str]:
        """``traceparent`` and ``tracestate`` for requests to others, so that they are part of this turn's trace.

        Of the span that is current where this is asked; empty if neither the client nor the deployment traces.
        """
        return tracing.headers(tracing.current())

    # --- reports ------------------------------------------------------------------------------------------------------

    async def working(self, content: Content | None = None) -> None:
        """Report progress: the task is WORKING."""
        await self.status(TaskState.WORKING, content)

    async def status(
        self, state: TaskState, content: Content | None = None, *, metadata: dict[str, Any] | None = None
    ) -> None:
        """Report a state that does not end the turn: WORKING, or AUTH_REQUIRED while waiting for it out of band.

        Args:
            state: the state.
            content: what to say about it.
            metadata: of the update; its members go into the task's metadata too.

        Raises:
            TurnOver: the turn has ended.
            ValueError: the state ends a turn; use the method named after it.
        """
        self._check()
        if state in TERMINAL_STATES or state in INTERRUPTED_STATES - {TaskState.AUTH_REQUIRED}:
            raise ValueError(f"{state.name} ends the turn: use the method for it")
        await self._reports.say_status(state, self._said(content), _object(metadata))

    async def artifact(
        self,
        content: Content,
        *,
        artifact_id: str | None = None,
        name: str = "",
        description: str = "",
        metadata: dict[str, Any] | None = None,
    ) -> str:
        """Report a whole artifact, replacing one of the same id; its id.

        Raises:
            TurnOver: the turn has ended.
        """
        self._check()
        made = Artifact(
            artifact_id=artifact_id or self._artifact_id(),
            parts=_parts(content),
            name=name,
            description=description,
            metadata=metadata,
        )
        await self._reports.say_artifact(made, append=False, last_chunk=True)
        return made.artifact_id

    async def chunk(
        self,
        artifact_id: str,
        content: Content,
        *,
        last: bool = False,
        name: str = "",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Report a piece of an artifact: the first makes it, later ones add to it.

        Raises:
            TurnOver: the turn has ended.
        """
        self._check()
        piece = Artifact(artifact_id=artifact_id, parts=_parts(content), name=name, metadata=metadata)
        await self._reports.say_artifact(piece, append=True, last_chunk=last)

    async def update_artifact(
        self, artifact: Artifact, *, append: bool, last_chunk: bool, metadata: dict[str, Any] | None = None
    ) -> None:
        """Report an artifact update as the protocol has it (specification 4.2.2).

        Args:
            artifact: whole, or what is new of it.
            append: whether its parts are added to those that are there; one that is not there is made.
            last_chunk: whether nothing more will be added.
            metadata: of the update; not the artifact's.

        Raises:
            TurnOver: the turn has ended.
        """
        self._check()
        await self._reports.say_artifact(artifact, _object(metadata), append=append, last_chunk=last_chunk)

    async def flush(self) -> None:
        """Wait until everything said so far is stored. One round trip, or none."""
        await self._reports.flush()

    # --- what survives attempts ---------------------------------------------------------------------------------------

    @overload
    async def step(self, name: str, do: Callable[..., Awaitable[Any]], /, *args: Any) -> Any: ...
    @overload
    async def step(self, name: str, do: Callable[..., Any], /, *args: Any) -> Any: ...
    @overload
    async def step(self, name: str, do: Callable[..., Any], /, *args: Any, result: type[T]) -> T: ...

    async def step(self, name: str, do: Callable[..., Any], /, *args: Any, result: Any = Any) -> Any:
        """Do something once: on a later attempt of this turn the recorded result is returned instead.

        At least once, to be exact: a worker that dies between doing and recording leaves nothing, so give what must
        not be done twice :meth:`idempotency_key`. What raises is not recorded. The same name again means the next step
        of that name, so an attempt must take its steps of one name in the same order; everything else may differ.

        Costs one record, durable when this returns; on a later attempt one read.

        Args:
            name: of the step, up to ``limits.STEP_NAME_CHARACTERS``.
            do: what to do; called with ``args``, awaited if it is async.
            args: for ``do``.
            result: type to read the result as. What is returned has been through JSON, the first time too.

        Raises:
            ValueError: the turn has ``limits.STEPS`` steps already, or the name is too long.
            TypeError: JSON cannot hold the result.
            OutputTooLarge: nor can a record.
            TurnOver: the turn has ended.
        """
        name, recorded = await self.begin_step(name)
        if recorded is None:
            done = do(*args)
            if inspect.isawaitable(done):
                done = await done
            recorded = await self.record_step(name, done)
        return msgspec.json.decode(recorded, type=result)

    async def begin_step(self, name: str) -> tuple[str, Raw | None]:
        """For :meth:`step`, here and in threads: the name of the next step of that name, and what it is known to be."""
        self._check()
        name = self._next_name(name)
        return name, await self._reports.result(name)

    async def record_step(self, name: str, done: Any) -> Raw:
        """The other half of :meth:`begin_step`."""
        recorded = Raw(msgspec.json.encode(done))
        await self._reports.say_step(name, recorded)
        return recorded

    async def recall(self) -> Recollection:
        """What an earlier turn of this context has remembered, in this task or another of the same owner and agent.

        Take it as a step (``turn.step("recall", turn.recall, result=Recollection)``): then each attempt of this turn
        knows the same, and so does whoever looks at its timeline or rehearses it.

        Costs one round trip, and one for each step that is remembered.

        Raises:
            Unavailable: the log does not answer; repeating is safe.
        """
        self._check()
        return await self._reports.recall()

    async def remember(self, *steps: str, since: int) -> bool:
        """Let the next turns of this context recall these steps, in place of what was remembered before.

        The steps stay where they are, in this task's timeline; they are forgotten when that is removed. Repeating is
        safe: what an earlier attempt of this turn has remembered is replaced.

        Costs one round trip.

        Args:
            steps: names of recorded steps of this turn.
            since: the version that this turn had recalled; 0 if there was nothing.

        Returns:
            False if another turn has remembered something since: recall that, and decide what is to be remembered now.

        Raises:
            ValueError: a step of this name is not recorded.
            Unavailable: nothing was remembered; repeating is safe.
        """
        self._check()
        return await self._reports.remember(steps, since)

    def idempotency_key(self, name: str) -> str:
        """A key for what others are asked to do once: the same in every attempt of this turn, and in no other turn."""
        return _digest("step", self.task_id, str(self._revision), name)

    async def sleep(self, seconds: float, *, name: str = "sleep") -> None:
        """Wait durably: on a later attempt for what is left.

        Where this takes long the turn is suspended: the agent is left here, as if canceled, and no process waits. When
        the time has come, or a message, any worker runs the agent again from its beginning, with the results of its
        steps; it gets here again and goes on. So all that is before it and must not happen again belongs in
        :meth:`step`.

        Args:
            seconds: how long; a suspended turn goes on up to two seconds late.
            name: of the timer; the same name again means the next timer of that name.

        Raises:
            ValueError: too long for an agent whose crash policy is ``fail``, which is never run again.
            TurnOver: the turn has ended.
        """
        self._check()
        if self._policy == FAIL and seconds > limits.SUSPEND_SECONDS:
            raise ValueError(f"only an agent with policy 'rerun' or 'resume' sleeps for {seconds:g} seconds")
        name = self._next_name(name)
        due = await self._reports.due(name)
        if due is None:
            due = self._reports.now() + int(seconds * 1000)
            await self._reports.say_timer(name, due)
        left = (due - self._reports.now()) / 1000
        if left > limits.SUSPEND_SECONDS and self._policy != FAIL:
            raise Suspended(due)
        await asyncio.sleep(max(0.0, left))

    # --- what survives tasks ------------------------------------------------------------------------------------------

    async def notebook(self, name: str) -> Notebook:
        """What the agent keeps for the task's context under a name: the same for all tasks of this agent and tenant.

        Costs a round trip or two. An earlier attempt of this turn that has only lost its way writes nothing any more.

        Args:
            name: ``[A-Za-z0-9_-]``, up to 64 characters.

        Raises:
            ValueError: this is no name.
            TurnOver: the turn has ended.
            LogError: the log does not answer.
        """
        if not is_name(name):
            raise ValueError(f"a notebook's name is 1 to 64 of letters, digits, _ and -: not {name!r}")
        self._check()
        book = Notebook(name, self._reports, self._check)
        await book.read()
        if self.attempt > 1:
            await book.add(b"")  # a mark, at which that attempt's next note finds that it is not the newest
        return book

    def _next_name(self, name: str) -> str:
        if not 1 <= len(name) <= limits.STEP_NAME_CHARACTERS or "#" in name:
            raise ValueError(f"a step's name has 1 to {limits.STEP_NAME_CHARACTERS} characters, and no #")
        self._named[name] += 1
        number = self._named[name]
        return name if number == 1 else f"{name}#{number}"

    def _artifact_id(self) -> str:
        """Of an artifact that was given none; an agent that is run anew gives the same ids in the same order."""
        if self._policy != RERUN:
            return _random_id()
        self._artifacts += 1
        return _digest("artifact", self.task_id, str(self._revision), str(self._artifacts))

    # --- endings ------------------------------------------------------------------------------------------------------

    def complete(self, content: Content | None = None) -> None:
        """End the task COMPLETED; what returning does."""
        self._end(TaskState.COMPLETED, content)

    def fail(self, content: Content) -> None:
        """End the task FAILED, with a message that clients see."""
        self._end(TaskState.FAILED, content)

    def reject(self, content: Content | None = None) -> None:
        """End the task REJECTED: the agent will not do this."""
        self._end(TaskState.REJECTED, content)

    def require_input(self, content: Content | None = None) -> None:
        """End the turn and wait for the client's next message."""
        self._end(TaskState.INPUT_REQUIRED, content)

    def require_auth(self, content: Content | None = None) -> None:
        """End the turn and wait until the client has authorised something and says so."""
        self._end(TaskState.AUTH_REQUIRED, content)

    def end(self, state: TaskState, content: Content | None = None, *, metadata: dict[str, Any] | None = None) -> None:
        """End the turn in a state that is terminal or waits for the client; CANCELED if the agent itself gives up.

        Args:
            state: the state.
            content: what to say about it.
            metadata: of the update that shows it; its members go into the task's metadata too.
        """
        if state not in TERMINAL_STATES | INTERRUPTED_STATES:
            raise ValueError(f"{state.name} does not end a turn")
        self._end(state, content, metadata)

    def rest(self) -> None:
        """End the turn and leave the task as it stands, for the client's next message.

        A task that nobody writes to ends FAILED after ``deadlines.input_seconds``, as one that asked for input does.
        """
        self._check()
        self.outcome = Rest()

    def reply(self, content: Content) -> None:
        """Answer with a bare Message instead of a task; for agents declared with ``replies="either"``.

        Once a task was shown it completes with this message.
        """
        self._check()
        # Should a task have been shown by then, the message is its final status message.
        with_task = self._said(content)
        self.outcome = Outcome(TaskState.COMPLETED, with_task, self._said(content, task=False))

    # --- the worker's side --------------------------------------------------------------------------------------------

    def offer(self, message: Message) -> None:
        """A further message is in the log."""
        self._waiting.append(message)
        self._arrived.set()

    def cancel(self) -> None:
        """A cancel is in the log."""
        self._canceled.set()

    def close(self) -> None:
        """The turn is being ended, by the agent's return or without it: nothing that is said from now on counts."""
        self._closed = True

    def on_taken(self, taken: Callable[[], None]) -> None:
        """What to call when the agent has taken a message."""
        self._on_taken = taken

    def _take(self) -> Message:
        if self._closed:
            raise TurnOver("the turn has ended: its messages are another's")
        message = self._waiting.pop(0)
        self.messages.append(message)
        self._on_taken()
        return message

    def _check(self) -> None:
        if self._closed or self.outcome is not None:
            raise TurnOver("the turn has ended: nothing can be reported after its end")

    def _end(self, state: TaskState, content: Content | None, metadata: dict[str, Any] | None = None) -> None:
        self._check()
        self.outcome = Outcome(state, self._said(content), metadata=_object(metadata))

    def _said(self, content: Content | None, *, task: bool = True) -> Raw:
        if content is None:
            return Raw(b"")
        if isinstance(content, Message):
            said = msgspec.structs.replace(
                content, role=Role.AGENT, context_id=self.context_id, task_id=self.task_id if task else ""
            )
        else:
            said = Message(
                message_id=_random_id(),
                role=Role.AGENT,
                parts=_parts(content),
                context_id=self.context_id,
                task_id=self.task_id if task else "",
            )
        line = encode(said)
        check_size(len(line), self._reports.report_bytes)
        return Raw(line)


def turn_of(
    head: Head,
    asked: Sequence[Submitted | MessageReceived],
    shown: bytes,
    *,
    task_id: str,
    policy: str,
    reports: Reports,
) -> Turn:
    """The turn that an agent gets for the claim that a fold ends with.

    Args:
        head: of the task, at the claim.
        asked: the messages that the turn begins with, oldest first.
        shown: JSON of the task as the agent is to see it.
        task_id: of the task.
        policy: of the agent.
        reports: where it reports to.
    """
    newest = asked[-1] if asked else None
    return Turn(
        task=shown,
        messages=[message_of(one) for one in asked],
        attempt=head.attempt,
        configuration=_optional(newest.configuration if newest else NOTHING, SendMessageConfiguration)
        or SendMessageConfiguration(),
        metadata=_optional(newest.metadata if newest else NOTHING, dict[str, Any]) or {},
        extensions=newest.extensions if newest else (),
        reports=reports,
        task_id=task_id,
        context_id=head.context_id,
        revision=head.turn_revision,
        policy=policy,
        actor=newest.actor if newest else None,
        state_before=head.state_before,
    )


def message_of(event: Submitted | MessageReceived) -> Message:
    """The message that a client sent."""
    return _message_decoder.decode(event.message)


def left_by(turn: Turn, error: BaseException | None, head: Head) -> Leaving:
    """How an agent that was not stopped has left its turn.

    Args:
        turn: its turn.
        error: what it raised; None if it returned.
        head: of the task, in this turn.
    """
    match error:
        case None:
            return turn.outcome or Outcome(TaskState.COMPLETED)
        case Suspended():
            return Suspend(error.until)
        case asyncio.CancelledError():
            reason = reasons.CANCELED_ITSELF
        case OutputTooLarge():
            reason = str(error)
        case _:
            reason = reasons.raised(type(error).__name__)
    return failure(head, turn.task_id, reason, Fault.RAISED)


def parts_of(content: Content) -> tuple[Part, ...]:
    """The parts that a report or a message given in short form stands for."""
    match content:
        case str():
            return (Part(text=content),)
        case Part():
            return (content,)
        case Message():
            return content.parts
        case dict():
            return (Part(data=content),)
        case _:
            return tuple(content)


def _parts(content: Content) -> tuple[Part, ...]:
    parts = parts_of(content)
    if not parts:
        raise ValueError("a report holds at least one part")
    return parts


def _digest(*parts: str) -> str:
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return base64.urlsafe_b64encode(digest[:15]).decode("ascii")


def _random_id() -> str:
    return base64.urlsafe_b64encode(os.urandom(15)).decode("ascii")


def _object(metadata: dict[str, Any] | None) -> Raw:
    return Raw(encode(metadata)) if metadata else NOTHING


def _optional(raw: Raw, of: Any) -> Any:
    content = bytes(raw)
    return msgspec.json.decode(content, type=of) if content else None


_task_decoder = msgspec.json.Decoder(Task)
_message_decoder = msgspec.json.Decoder(Message)
