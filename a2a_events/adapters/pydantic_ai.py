"""An agent of pydantic-ai as one of ours: its answer streams as it is written, and its context remembers the messages.

A turn is one run of the agent. What it knew before is a step of the turn (``history``), what the run has added and what
came of it is another (``run``); the context remembers both, so the next turn goes on from there, in this task or in
another of the same context, whichever worker has it (ADR 0030).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from mimetypes import guess_type
from typing import Any, Final, TypeGuard, Unpack, cast, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Raw, Struct
from pydantic import TypeAdapter, ValidationError
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai import (
    AgentRunResult,
    AudioUrl,
    BinaryContent,
    DeferredToolRequests,
    DeferredToolResults,
    DocumentUrl,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ToolDenied,
    UserContent,
    VideoUrl,
)
from pydantic_ai.agent import AbstractAgent

from a2a_events import limits
from a2a_events.adapters.declaration import Given, declare
from a2a_events.model import AgentCard, Part
from a2a_events.runtime.agent import Agent
from a2a_events.runtime.turn import Turn
from a2a_events.timeline.events import NOTHING

RESULT: Final = "result"
"""Name of the artifact that holds the answer, as fasta2a calls it."""
_DENIED: Final = "The tool call was not approved: the user has answered with a message instead."
_BY_MEDIA_TYPE: Final = {"image": ImageUrl, "audio": AudioUrl, "video": VideoUrl}


class History(Struct, frozen=True, omit_defaults=True):
    """What a run begins with; the step ``history``."""

    version: int = 0
    """Of what the context remembered."""
    messages: list[Raw] = []
    """ModelMessages."""
    waiting: Raw = NOTHING
    """The DeferredToolRequests that the newest of them ended with, if any."""


class Ran(Struct, frozen=True, omit_defaults=True):
    """What came of a run; the step ``run``."""

    messages: list[Raw]
    """The new ModelMessages."""
    anew: bool = False
    """Whether they replace the history instead of following it: the agent has rewritten it."""
    text: str | None = None
    """The answer, if it is text."""
    data: Raw = NOTHING
    """Else its JSON,"""
    schema: Raw = NOTHING
    """and the schema of that."""
    waiting: Raw = NOTHING
    """DeferredToolRequests in place of an answer."""


class CannotGoOn(RuntimeError):
    """Other tasks of the context end faster than this one can be remembered beside them."""


def recognises(value: object) -> bool:
    """Whether this is an agent of pydantic-ai, or a wrapper of one."""
    return _is_agent(value)


def _is_agent(value: object) -> TypeGuard[AbstractAgent[Any, Any]]:
    return isinstance(value, AbstractAgent)


def agent_of(
    value: object,
    /,
    *,
    name: str | None = None,
    card: AgentCard | None = None,
    deps: Callable[[Turn], Any] | None = None,
    **given: Unpack[Given],
) -> Agent:
    """The agent whose turns are runs of an agent of pydantic-ai.

    Args:
        value: the agent, unmodified.
        name: default: its own name, as far as it can stand in a path.
        card: default: made of its name and description.
        deps: makes the dependencies of each run, of the turn.
        given: terms, and what the card says, as ``a2a_events.agent`` takes them.

    Raises:
        TypeError: it is no agent of pydantic-ai, or the terms do not go together.
    """
    if not _is_agent(value):
        raise TypeError(f"expected an agent of pydantic-ai, not {value!r}")
    given.setdefault("description", value.description)
    return declare(_Runner(value, deps).run, given, name=name or _name(value.name), card=card)


def _name(given: str | None) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", given or "").strip("-")[:64] or "agent"


class _Runner:
    """Runs one agent, for many turns at once."""

    def __init__(self, agent: AbstractAgent[Any, Any], deps: Callable[[Turn], Any] | None) -> None:
        self._agent = agent
        self._deps = deps
        self._streams: bool | None = None
        """Whether its model can stream; unknown until it was tried."""
        self._writes_text = _includes_text(agent.output_type)

    async def run(self, turn: Turn) -> None:
        """One turn."""
        history = await turn.step("history", _recalled, turn, result=History)
        results: DeferredToolResults | None = None
        if bytes(history.waiting):
            try:
                results = _results(turn, history.waiting)
            except ValidationError as error:
                turn.require_input([Part(text=_expected(error)), *_asked(history.waiting)])
                return
        answer = _Answer(turn)
        ran = await turn.step("run", self._ran, turn, history, results, answer, result=Ran)
        await _remember(turn, history.version)
        if bytes(ran.waiting):
            turn.require_input(_asked(ran.waiting))
            return
        await answer.whole(_part(ran))

    async def _ran(self, turn: Turn, history: History, results: DeferredToolResults | None, answer: _Answer) -> Ran:
        before = _messages(history.messages)
        asked = _prompt(turn, answered=results is not None)
        run = partial(
            self._agent_run,
            user_prompt=asked,
            message_history=before or None,
            deferred_tool_results=results,
            deps=self._deps(turn) if self._deps is not None else None,
        )
        return _outcome(before, await run(answer))

    async def _agent_run(self, answer: _Answer, **asked: Any) -> AgentRunResult[Any]:
        if self._streams is not False:
            result = await self._streamed(answer, asked)
            if result is not None:
                return result
        return await self._agent.run(**asked)

    async def _streamed(self, answer: _Answer, asked: dict[str, Any]) -> AgentRunResult[Any] | None:
        """A run that is streamed; None if the model cannot, and has said so before anything has happened."""
        begun = False
        try:
            async with self._agent.iter(**asked) as run:
                async for node in run:
                    await answer.alive()
                    if not PydanticAgent.is_model_request_node(node):
                        continue
                    async with node.stream(run.ctx) as events:
                        async for event in events:
                            begun = True
                            if self._writes_text and (text := _text_of(event)):
                                await answer.chunk(text)
                    begun = True
        except (NotImplementedError, AssertionError):
            # What models raise that do not stream; once the run has begun the same errors mean something else.
            if begun or self._streams:
                raise
            self._streams = False
            return None
        self._streams = True
        if run.result is None:
            raise RuntimeError("the run has ended without a result")
        return run.result


class _Answer:
    """The artifact that a turn's answer goes into."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._id = turn.idempotency_key(RESULT)
        self._stale = turn.attempt > 1 and any(a.artifact_id == self._id for a in turn.task.artifacts)
        """An earlier attempt has written some of it."""

    async def alive(self) -> None:
        """A sign of life, for the idle deadline: models think long."""
        await self._turn.working()

    async def chunk(self, text: str) -> None:
        """A piece of it, as the model writes it."""
        if self._stale:
            self._stale = False
            await self._turn.artifact(text, artifact_id=self._id, name=RESULT)
            return
        await self._turn.chunk(self._id, text, name=RESULT)

    async def whole(self, part: Part) -> None:
        """All of it, in place of the pieces: what a client finds that comes later is one part."""
        await self._turn.artifact(part, artifact_id=self._id, name=RESULT)


# --- what the context remembers ---------------------------------------------------------------------------------------


async def _recalled(turn: Turn) -> History:
    found = await turn.recall()
    if not found.steps:
        return History(version=found.version)
    before = msgspec.json.decode(found.steps[_step_named(found.steps, "history")], type=History)
    ran = msgspec.json.decode(found.steps["run"], type=Ran)
    messages = ran.messages if ran.anew else [*before.messages, *ran.messages]
    return History(version=found.version, messages=messages, waiting=ran.waiting)


async def _remember(turn: Turn, since: int) -> None:
    """What this turn knew and what it has added, for the next one.

    Where another task of the context was faster this one's messages follow its.

    Raises:
        CannotGoOn: again and again.
    """
    known = "history"
    for again in range(1, limits.DECIDE_ATTEMPTS):
        if await turn.remember(known, "run", since=since):
            return
        known = f"history-{again}"
        since = (await turn.step(known, _recalled, turn, result=History)).version
    raise CannotGoOn("other tasks of the context end faster than this one can be remembered")


def _step_named(steps: dict[str, Raw], name: str) -> str:
    return next(step for step in steps if step == name or step.startswith(f"{name}-"))


def _messages(lines: Sequence[Raw]) -> list[ModelMessage]:
    return ModelMessagesTypeAdapter.validate_json(b"[" + b",".join(bytes(line) for line in lines) + b"]")


def _lines(messages: list[ModelMessage]) -> list[Raw]:
    return msgspec.json.decode(ModelMessagesTypeAdapter.dump_json(messages), type=list[Raw])


def _outcome(before: list[ModelMessage], result: AgentRunResult[Any]) -> Ran:
    everything, new = result.all_messages(), result.new_messages()
    # An agent may have shortened or rewritten what it was given.
    anew = everything[: -len(new) or None] != before
    messages = _lines(everything if anew else new)
    output = result.output
    match output:
        case str():
            return Ran(messages=messages, anew=anew, text=output)
        case DeferredToolRequests():
            waiting = Raw(TypeAdapter(DeferredToolRequests).dump_json(output))
            return Ran(messages=messages, anew=anew, waiting=waiting)
        case _:
            adapter: TypeAdapter[Any] = TypeAdapter(cast("type[object]", type(output)))
            schema = msgspec.json.encode(adapter.json_schema(mode="serialization"))
            return Ran(messages=messages, anew=anew, data=Raw(adapter.dump_json(output)), schema=Raw(schema))


# --- what clients say and see -----------------------------------------------------------------------------------------


def _prompt(turn: Turn, *, answered: bool) -> str | list[UserContent] | None:
    """What the messages of the turn say to the model.

    Args:
        turn: whose.
        answered: whether a data part among them answers what the agent had asked for, and so is no part of the prompt.
    """
    parts = [part for message in turn.messages for part in message.parts]
    if answered:
        parts = [part for part in parts if part.data is UNSET]
    content = [_content(part) for part in parts]
    match content:
        case []:
            return None
        case [str() as text]:
            return text
        case _:
            return content


def _content(part: Part) -> UserContent:
    if isinstance(part.text, str):
        return part.text
    if isinstance(part.raw, bytes):
        return BinaryContent(data=part.raw, media_type=part.media_type or "application/octet-stream")
    if isinstance(part.url, str):
        return _url(part.url, part.media_type)
    return msgspec.json.encode(part.data).decode()


def _url(url: str, media_type: str) -> UserContent:
    kind = media_type or guess_type(urlsplit(url).path)[0] or ""
    made: UserContent = _BY_MEDIA_TYPE.get(kind.partition("/")[0], DocumentUrl)(url=url, media_type=kind or None)
    return made


def _part(ran: Ran) -> Part:
    """The answer, as fasta2a shows it."""
    if ran.text is not None:
        return Part(text=ran.text)
    return Part(
        data={"result": msgspec.json.decode(ran.data)}, metadata={"json_schema": msgspec.json.decode(ran.schema)}
    )


def _text_of(event: object) -> str:
    """What an event of a model's stream adds to the answer."""
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""


def _includes_text(output_type: object) -> bool:
    """Whether what the model writes may be the answer, and not JSON or a draft that is parsed."""
    if isinstance(output_type, list | tuple):
        return any(_includes_text(each) for each in cast("Sequence[object]", output_type))
    return output_type is str or str in get_args(output_type)


# --- tools that wait for approval, or for a result --------------------------------------------------------------------


def _requests(waiting: Raw) -> DeferredToolRequests:
    return TypeAdapter(DeferredToolRequests).validate_json(bytes(waiting))


def _asked(waiting: Raw) -> list[Part]:
    """The question to the client."""
    requests = _requests(waiting)
    names = ", ".join(dict.fromkeys(call.tool_name for call in (*requests.approvals, *requests.calls)))
    what = "approval" if requests.approvals else "a result"
    if requests.approvals and requests.calls:
        what = "approval or a result"
    data = {
        kind: [
            {"tool_call_id": call.tool_call_id, "tool_name": call.tool_name, "args": call.args_as_dict()}
            for call in calls
        ]
        for kind, calls in (("approvals", requests.approvals), ("calls", requests.calls))
        if calls
    }
    return [Part(text=f"The agent waits for {what}: {names}"), Part(data=data)]


def _results(turn: Turn, waiting: Raw) -> DeferredToolResults:
    """What the client's message says to the question; a message without an answer denies.

    Raises:
        ValidationError: its data part is no answer.
    """
    requests = _requests(waiting)
    given = DeferredToolResults()
    for message in turn.messages:
        for part in message.parts:
            if part.data is not UNSET:
                given.update(_answers.validate_python(part.data))
    approvals = {
        call.tool_call_id: given.approvals.get(call.tool_call_id, ToolDenied(_DENIED)) for call in requests.approvals
    }
    calls = {call.tool_call_id: given.calls.get(call.tool_call_id, _DENIED) for call in requests.calls}
    return DeferredToolResults(approvals=approvals, calls=calls)


def _expected(error: ValidationError) -> str:
    return (
        'The answer is a data part like {"approvals": {"<tool_call_id>": true}, "calls": {"<tool_call_id>": …}}'
        f" ({error.error_count()} errors in what was sent)"
    )


_answers: Final = TypeAdapter(DeferredToolResults)
