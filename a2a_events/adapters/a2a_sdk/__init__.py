"""An unmodified ``AgentExecutor`` of a2a-sdk (1.3 or newer) as an agent of ours.

::

    agent = agent_of(MyExecutor(), name="my-agent", card=card)

or ``a2a-events up --agent my.module:MyExecutor``. What is kept of the SDK's behaviour stands in
docs/adapters/a2a-sdk.md.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Unpack

from a2a.server.agent_execution import AgentExecutor
from a2a.types import a2a_pb2 as pb

from a2a_events.adapters.a2a_sdk import protojson
from a2a_events.adapters.a2a_sdk.execution import run
from a2a_events.adapters.declaration import Given, declare, name_of
from a2a_events.model import AgentCard
from a2a_events.runtime.agent import Agent

__all__ = ["agent_of", "recognises"]


def agent_of(
    executor: AgentExecutor | type[AgentExecutor],
    *,
    name: str | None = None,
    card: pb.AgentCard | AgentCard | None = None,
    **given: Unpack[Given],
) -> Agent:
    """The agent that an executor is here.

    Its crash policy is ``fail`` unless another one is given: an executor does not know that it is run a second time.

    Args:
        executor: an instance, or a class that makes one when called without arguments; one serves all tasks.
        name: in paths and subjects; default: the class's, in lower case with dashes, without ``AgentExecutor``.
        card: the SDK's or ours, announced as it is, but that gateways put their own addresses in; default: one made of
            ``given``, the name and the class's docstring.
        given: as :func:`a2a_events.agent` takes it.

    Raises:
        TypeError: it is no executor, or what is given does not go together.
    """
    made = _instance(executor)
    given.setdefault("description", _described(made))
    return declare(
        partial(run, made),
        given,
        name=name or name_of(made, "executor", "agent"),
        card=protojson.read(card, AgentCard) if isinstance(card, pb.AgentCard) else card,
        replies="either",  # what an executor answers with is known when it does
    )


def recognises(value: object) -> bool:
    """Whether this is an executor, or a class of them. See :mod:`a2a_events.adapters.recognise`."""
    return isinstance(value, AgentExecutor) or (inspect.isclass(value) and issubclass(value, AgentExecutor))


def _instance(executor: object) -> AgentExecutor:
    made = executor() if inspect.isclass(executor) else executor
    if not isinstance(made, AgentExecutor):
        raise TypeError(f"expected an AgentExecutor of a2a-sdk, not {made!r}")
    return made


def _described(executor: AgentExecutor) -> str | None:
    """The docstring that the class has itself: that of the SDK's says nothing of it."""
    own = type(executor).__doc__
    return inspect.cleandoc(own) if own else None
