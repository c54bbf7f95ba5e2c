"""An agent, as its author writes it: a function, or a class with ``run``, that gets a :class:`~.turn.Turn`.

::

    async def greet(turn: Turn) -> None:
        await turn.artifact(f"Hello, {turn.text}")

A plain ``def`` may block: it runs in a thread of its own, and gets a :class:`~.thread_turn.ThreadTurn`, whose methods
are plain, too. A function that takes a text, a message or data instead of a turn is an agent as well, one that returns
or yields its answer (``functions``).

Returning completes the task; raising fails it. :func:`agent` adds a name, a card and terms; without them a plain
function is served under its own name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

from msgspec import Struct

from a2a_events import limits
from a2a_events.model import AgentCapabilities, AgentCard, AgentExtension, AgentSkill, encode
from a2a_events.runtime.functions import Function, answering, taken_by
from a2a_events.runtime.thread_turn import ThreadTurn
from a2a_events.runtime.turn import Turn
from a2a_events.timeline.decide import FAIL, POLICIES, RESUME, Terms
from a2a_events.timeline.ids import is_name

Handler: TypeAlias = Callable[[Turn], Awaitable[None]]
BlockingHandler: TypeAlias = Callable[[ThreadTurn], None]
"""A plain function; it is run in a thread."""
Served: TypeAlias = Handler | BlockingHandler | Function
"""What can be made an agent of."""


@runtime_checkable
class Runs(Protocol):
    """A class-based agent."""

    async def run(self, turn: Turn) -> None:
        """Work on one turn; many may run at once on one instance. May be a plain ``def``, as functions may."""
        ...


class Deadlines(Struct, frozen=True):
    """When a hung agent is ended FAILED; seconds."""

    turn_seconds: float = limits.TURN_DEADLINE_SECONDS
    idle_seconds: float = limits.IDLE_DEADLINE_SECONDS
    """Longest silence of a running agent."""
    input_seconds: float = limits.INPUT_DEADLINE_SECONDS
    """Longest wait for a client that was asked for something."""


class Agent(Struct, frozen=True):
    """What a worker serves: the handler, and what it announces of it.

    ``replies``: ``task`` (default), or ``either`` for an agent that may answer with a bare Message; clients of such an
    agent see nothing before its first report. ``tenant``: routing string that reaches the agent at a gateway's root.
    ``policy``: what happens to a turn that the agent did not end (``decide.FAIL``, ``RERUN``, ``RESUME``).
    """

    name: str
    handler: Handler
    card: AgentCard
    replies: str = "task"
    tenant: str = ""
    policy: str = FAIL
    deadlines: Deadlines = Deadlines()
    cancel_grace_seconds: float = limits.CANCEL_GRACE_SECONDS
    attempts: int = limits.TURN_ATTEMPTS
    """At a turn, before it has failed; 1 under the policy ``fail``."""
    resumes: tuple[str, ...] = ()
    """Further versions of the agent whose unfinished turns it can resume (turns 4.12)."""
    linger_seconds: float = limits.LINGER_SECONDS

    @property
    def terms(self) -> Terms:
        """What the turn protocol needs to know."""
        return Terms(self.attempts, self.replies, self.policy, self.card.version, self.resumes)

    def card_json(self) -> bytes:
        """The card as announced; gateways add the interfaces."""
        return encode(self.card)


def agent(
    *,
    name: str | None = None,
    description: str | None = None,
    version: str = "1.0.0",
    skills: tuple[AgentSkill, ...] = (),
    replies: str = "task",
    policy: str = FAIL,
    attempts: int = limits.TURN_ATTEMPTS,
    resumes: tuple[str, ...] = (),
    deadlines: Deadlines | None = None,
    cancel_grace_seconds: float = limits.CANCEL_GRACE_SECONDS,
    linger_seconds: float = limits.LINGER_SECONDS,
    input_modes: tuple[str, ...] = (),
    tenant: str = "",
    extensions: tuple[AgentExtension, ...] = (),
) -> Callable[[Served], Agent]:
    """Make an :class:`Agent` of a function, async or plain, that takes a turn; or a text, a message or data.

    Args:
        name: shown in the card, and in paths and subjects (``[A-Za-z0-9_-]``); default: the function's name.
        description: default: the first paragraph of the docstring.
        version: of the agent's code.
        skills: default: one skill, named like the agent.
        replies: ``task`` or ``either``.
        policy: what happens when the agent raises, or its worker disappears or is stopped: ``fail`` ends the task
            FAILED, ``rerun`` runs the agent anew from the beginning of the turn, ``resume`` shows it what the turn
            has reported so far and lets it go on.
        attempts: how often a turn is tried under ``rerun`` and ``resume`` before the task ends FAILED.
        resumes: further versions whose unfinished turns this one can resume; those with the same first number (of 0.x
            the first two) are resumed in any case.
        deadlines: when to give up on it.
        cancel_grace_seconds: what it gets to stop by itself.
        linger_seconds: how long an artifact chunk may wait for others; 0 sends each at once.
        input_modes: media types it takes; empty: any.
        tenant: routing string that reaches it at the root of a gateway that serves several agents.
        extensions: A2A extensions that it knows, or requires.
    """

    def make(handler: Served) -> Agent:
        return _agent(
            handler,
            name=name,
            description=description,
            version=version,
            skills=skills,
            replies=replies,
            policy=policy,
            attempts=attempts,
            resumes=resumes,
            deadlines=deadlines or Deadlines(),
            cancel_grace_seconds=cancel_grace_seconds,
            linger_seconds=linger_seconds,
            input_modes=input_modes,
            tenant=tenant,
            extensions=extensions,
        )

    return make


def as_agent(value: object) -> Agent:
    """An :class:`Agent` out of what ``--agent module:attr`` may name: an agent, a function, a class or an instance.

    Raises:
        TypeError: none of these; says what was expected.
    """
    if isinstance(value, Agent):
        return value
    if inspect.isclass(value):
        value = value()
    if isinstance(value, Runs):
        return _agent(value.run, name=_dashed(type(value).__name__), description=inspect.getdoc(value))
    if inspect.isfunction(value) or inspect.ismethod(value) or isinstance(value, partial):
        return _agent(cast("Served", value))
    raise TypeError(f"expected an Agent, a function or a class with run(turn), not {value!r}")


def _agent(function: Served, **given: Any) -> Agent:
    takes = taken_by(function)
    if takes is None:
        handler = _handler(cast("Handler | BlockingHandler", function))
    else:
        _check_call(function, f"the {takes}")
        if given.get("policy") == RESUME:
            raise TypeError(f"{function!r} takes no turn, so it cannot go on with one: its policy is 'fail' or 'rerun'")
        handler = answering(function, takes)
    name = given.pop("name", None) or _dashed(getattr(handler, "__name__", "agent"))
    if not is_name(name):
        raise TypeError(f"an agent's name is 1 to 64 of letters, digits, _ and -: not {name!r}")
    policy = given.get("policy", FAIL)
    if policy not in POLICIES:
        raise TypeError(f"a crash policy is one of {', '.join(POLICIES)}: not {policy!r}")
    if given.get("attempts", 1) < 1:
        raise TypeError("a turn is attempted at least once")
    described = given.pop("description", None) or inspect.getdoc(handler) or name
    description = re.sub(r"\s+", " ", described.split("\n\n")[0])
    modes = given.pop("input_modes", ()) or ("*/*",)
    skills = given.pop("skills", ()) or (AgentSkill(id=name, name=name, description=description, tags=(name,)),)
    card = AgentCard(
        name=name,
        description=description,
        version=given.pop("version", "1.0.0"),
        supported_interfaces=(),
        capabilities=AgentCapabilities(streaming=True, extensions=given.pop("extensions", ())),
        default_input_modes=modes,
        default_output_modes=("text/plain", "application/json"),
        skills=skills,
    )
    return Agent(name=name, handler=handler, card=card, **given)


def _handler(function: Handler | BlockingHandler) -> Handler:
    """A function as the worker calls it.

    Raises:
        TypeError: nobody could call it with a turn; says why.
    """
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function!r} yields; an agent reports with the turn that it is given: await turn.artifact(…)")
    _check_call(function, "the turn")
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        return cast("Handler", function)
    blocking = cast("BlockingHandler", function)

    @wraps(blocking)
    async def handler(turn: Turn) -> None:
        said = cast("object", await turn.in_thread(blocking, ThreadTurn(turn)))
        if inspect.isawaitable(said):
            if inspect.iscoroutine(said):
                said.close()
            raise TypeError(f"{blocking!r} returned something to await: declare the agent with async def")

    return handler


def _check_call(function: Served, argument: str) -> None:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise TypeError(f"an agent is called with one argument, {argument}; {function!r} cannot be") from None


def _dashed(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
