# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""One turn as a worker of fasta2a works on it: its task as it sees it, and what becomes of what it writes.

Two things write here for one fact: the storage and the event bus. What is written to the storage is recorded; of what
is only emitted, artifacts and messages are recorded and a state is a hint. An ending waits until the worker has
returned, because a worker emits its artifacts after it has written that the task is completed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Literal, cast

import structlog
from fasta2a import schema
from fasta2a.broker import TaskOperation
from fasta2a.extensions import ACTIVATED_EXTENSIONS_KEY
from msgspec import Raw, Struct
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, Span, SpanContext, TraceFlags, TraceState
from pydantic import TypeAdapter

from a2a_events.adapters.fasta2a.objects import artifact_from, message_for, message_from, state_for
from a2a_events.errors import LogError
from a2a_events.model import TERMINAL_STATES, Message, TaskState, encode
from a2a_events.runtime.turn import Turn
from a2a_events.timeline.decide import RERUN, Outcome
from a2a_events.timeline.events import NOTHING

_CONTEXT: Final = "context"
_REMEMBERED: Final = "remembered"
_ENDED: Final[frozenset[str]] = frozenset(state_for(state) for state in TERMINAL_STATES)

logger = structlog.get_logger(__name__)


class _Context(Struct, frozen=True, omit_defaults=True):
    """What the context remembers; the step ``context``."""

    version: int = 0
    content: Raw = NOTHING


class OperatedTurn:
    """A turn that a worker of fasta2a runs.

    Args:
        turn: whose.
        policy: what happens if its worker disappears.
        context_type: what the worker keeps of a context.
    """

    def __init__(self, turn: Turn, policy: str, context_type: TypeAdapter[Any]) -> None:
        self.task_id = turn.task_id
        self._turn = turn
        self._anew = policy == RERUN
        self._context_type = context_type
        self._state: schema.TaskState = "submitted"
        self._history = [message_for(message) for message in turn.messages]
        self._artifacts: dict[str, schema.Artifact] = {}
        """That are written to the storage, by the worker's own ids."""
        self._ids: dict[str, str] = {}
        self._said: set[str] = set()
        """Artifacts that were reported in this turn, by the worker's own ids."""
        self._last_words: dict[str, Message] = {}
        """Messages that come with an ending, by its state."""
        self._loaded: _Context | None = None
        self._context: Any = None
        self._fault: LogError | None = None

    # --- the broker's side --------------------------------------------------------------------------------------------

    def operation(self, kind: Literal["run", "cancel"]) -> TaskOperation:
        """What the worker is to do, as its loop takes it."""
        span = _span(self._turn.trace_headers)
        params = {"id": self.task_id} if kind == "cancel" else self._params()
        return cast("TaskOperation", {"operation": kind, "params": params, "_current_span": span})

    def _params(self) -> schema.TaskSendParams:
        configuration = self._turn.configuration
        params: schema.TaskSendParams = {
            "id": self.task_id,
            "context_id": self._turn.context_id,
            "message": message_for(self._turn.message),
        }
        if configuration.history_length is not None:
            params["history_length"] = configuration.history_length
        if configuration.accepted_output_modes:
            params["accepted_output_modes"] = list(configuration.accepted_output_modes)
        metadata = dict(self._turn.metadata)
        if self._turn.extensions:
            metadata[ACTIVATED_EXTENSIONS_KEY] = list(self._turn.extensions)
        if metadata:
            params["metadata"] = metadata
        return params

    # --- the storage's side -------------------------------------------------------------------------------------------

    def task(self, history_length: int | None = None) -> schema.Task:
        """The task as the worker sees it: new in each turn, as with fasta2a each message makes a task."""
        shown: schema.Task = {
            "id": self.task_id,
            "context_id": self._turn.context_id,
            "status": {"state": self._state},
            "history": list(self._history[-history_length:] if history_length else self._history),
        }
        if self._artifacts:
            shown["artifacts"] = list(self._artifacts.values())
        return shown

    async def update(
        self,
        state: schema.TaskState,
        artifacts: list[schema.Artifact],
        messages: list[schema.Message],
    ) -> schema.Task:
        """What the worker writes; recorded when this returns, but for the ending, which waits for its return."""
        if self._state in _ENDED:
            if state != self._state:
                logger.warning("an ended task stays as it is", task_id=self.task_id, state=self._state, refused=state)
            return self.task()
        with self._noting_faults():
            for artifact in artifacts:
                await self._replace(artifact)
                self._artifacts[artifact["artifact_id"]] = artifact
            for message in messages:
                message["task_id"], message["context_id"] = self.task_id, self._turn.context_id
                self._history.append(message)
                await self._turn.working(message_from(message))
            if state == "auth-required":
                await self._turn.status(TaskState.AUTH_REQUIRED)
            self._state = state
            if state not in _ENDED:
                await self._turn.flush()
        return self.task()

    async def load_context(self, context_id: str) -> Any:
        """What the context remembers; None if nothing."""
        self._check_context(context_id)
        if self._loaded is None:
            with self._noting_faults():
                self._loaded = await self._turn.step(_CONTEXT, self._recall, result=_Context)
            if bytes(self._loaded.content):
                self._context = self._context_type.validate_json(bytes(self._loaded.content))
        return self._context

    async def update_context(self, context_id: str, context: Any) -> None:
        """Have the context remember this; of two tasks that end together, what the later one says, as in fasta2a."""
        await self.load_context(context_id)
        assert self._loaded is not None
        with self._noting_faults():
            # An attempt remembers what it has found itself, whatever an earlier one has.
            name, _ = await self._turn.begin_step(f"{_REMEMBERED}-{self._turn.attempt}")
            await self._turn.record_step(name, Raw(self._context_type.dump_json(context)))
            since = self._loaded.version
            while not await self._turn.remember(name, since=since):
                since = (await self._turn.recall()).version
        self._context = context

    async def _recall(self) -> _Context:
        found = await self._turn.recall()
        return _Context(found.version, next((c for n, c in found.steps.items() if n.startswith(_REMEMBERED)), NOTHING))

    def _check_context(self, context_id: str) -> None:
        if context_id != self._turn.context_id:
            raise LookupError(f"a turn knows its own context {self._turn.context_id!r}, not {context_id!r}")

    # --- the event bus's side -----------------------------------------------------------------------------------------

    async def emit(self, event: schema.StreamResponse) -> None:
        """What the worker tells its clients. Waits for no reader."""
        with self._noting_faults():
            if "artifact_update" in event:
                await self._emit_artifact(event["artifact_update"])
            elif "status_update" in event:
                status = event["status_update"]["status"]
                if "message" in status:
                    await self._emit_message(status["state"], status["message"])
            elif "message" in event:
                await self._emit_message("working", event["message"])

    async def _emit_message(self, state: schema.TaskState, message: schema.Message) -> None:
        if state in {"submitted", "working"}:
            await self._turn.working(message_from(message))
        else:
            self._last_words[state] = message_from(message)

    async def _emit_artifact(self, update: schema.TaskArtifactUpdateEvent) -> None:
        artifact = update["artifact"]
        artifact_id = artifact["artifact_id"]
        if self._artifacts.get(artifact_id) == artifact:
            return  # it was written to the storage just now
        last = update.get("last_chunk", False)
        if update.get("append", False) or not (last or artifact_id in self._said):
            await self._extend(artifact, last=last)
        else:
            await self._replace(artifact)

    async def _replace(self, artifact: schema.Artifact) -> None:
        made = artifact_from(artifact)
        self._said.add(artifact["artifact_id"])
        await self._turn.artifact(
            made.parts,
            artifact_id=self._id(made.artifact_id),
            name=made.name,
            description=made.description,
            metadata=made.metadata,
        )

    async def _extend(self, artifact: schema.Artifact, *, last: bool) -> None:
        made = artifact_from(artifact)
        self._said.add(artifact["artifact_id"])
        await self._turn.chunk(
            self._id(made.artifact_id), made.parts, last=last, name=made.name, metadata=made.metadata
        )

    def _id(self, artifact_id: str) -> str:
        """The worker's own id; where it may run anew, one that the next attempt gives again, so that it replaces."""
        if not self._anew:
            return artifact_id
        if artifact_id not in self._ids:
            self._ids[artifact_id] = self._turn.idempotency_key(f"artifact {len(self._ids)}")
        return self._ids[artifact_id]

    # --- the end ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _noting_faults(self) -> Generator[None]:
        try:
            yield
        except LogError as error:
            self._fault = error
            raise

    def end(self, failure: BaseException | None) -> None:
        """The worker has returned: the turn ends as it has written.

        Args:
            failure: what left the worker, which catches what its tasks raise.

        Raises:
            LogError: the log could not be written or read, and the worker took that for a failure of its task.
            BaseException: the failure.
        """
        if self._fault is not None:
            raise type(self._fault)(*self._fault.args)
        if failure is not None:
            raise failure
        turn, words = self._turn, self._last_words.get(self._state)
        match self._state:
            case "completed":
                turn.complete(words)
            case "failed":
                turn.fail(words or "The agent has failed.")
            case "rejected":
                turn.reject(words)
            case "input-required":
                turn.require_input(words)
            case "auth-required":
                turn.require_auth(words)
            case "canceled":
                turn.outcome = Outcome(TaskState.CANCELED, Raw(encode(words)) if words else NOTHING, reason="canceled")
            case _:
                turn.fail(f"The agent has returned and left its task {self._state}: it has to write how it ends.")


class Operation:
    """One thing that a worker does on a turn, from the moment its loop takes it to when it asks for the next.

    Args:
        turn: which.
        kind: to run it, or, beside that, to cancel it.
    """

    def __init__(self, turn: OperatedTurn, kind: Literal["run", "cancel"]) -> None:
        self.turn = turn
        self.handled = asyncio.Event()
        self._kind: Literal["run", "cancel"] = kind

    async def received(self) -> AsyncIterator[TaskOperation]:
        """Itself, once."""
        yield self.turn.operation(self._kind)
        self.handled.set()


current: Final[ContextVar[Operation | None]] = ContextVar("a2a_events_fasta2a_operation", default=None)
"""What whoever asks works on. One storage serves many turns at once, and is asked by context id alone."""


def _span(headers: dict[str, str]) -> Span:
    """The turn's, for a library that hands spans on as objects."""
    parent = headers.get("traceparent", "")
    if not parent:
        return INVALID_SPAN
    _, trace_id, span_id, flags = parent.split("-")[:4]
    return NonRecordingSpan(
        SpanContext(
            trace_id=int(trace_id, 16),
            span_id=int(span_id, 16),
            is_remote=True,
            trace_flags=TraceFlags(int(flags, 16)),
            trace_state=TraceState.from_header([headers.get("tracestate", "")]),
        )
    )
