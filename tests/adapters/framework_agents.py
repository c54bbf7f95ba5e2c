"""Agents of pydantic-ai and a worker of fasta2a as people have them, for processes that tests start and kill."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from fasta2a.broker import InMemoryBroker
from fasta2a.pydantic_ai import AgentWorker
from fasta2a.storage import InMemoryStorage
from pydantic_ai import Agent, ModelMessage, TextPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from a2a_events.adapters import fasta2a, pydantic_ai
from a2a_events.timeline.decide import RERUN


async def write(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
    """Says which process this is and all that was ever said to it; slowly where it is told to."""
    heard: list[str] = []
    for message in messages:
        heard += [str(part.content) for part in message.parts if isinstance(part, UserPromptPart)]
    answers = sum(isinstance(part, TextPart) for message in messages for part in message.parts)
    yield f"{os.getpid()} has answered {answers}:"
    for word in heard:
        yield f" {word}"
    if heard[-1] == "slow":
        for number in range(40):
            await asyncio.sleep(0.05)
            yield f" {number}"


agent: Any = Agent(FunctionModel(stream_function=write), name="writer")
"""What a user has; ``--agent`` names it as it is."""

worker = AgentWorker(InMemoryBroker(), InMemoryStorage(), agent)
"""The same of fasta2a."""

rerun_agent = pydantic_ai.agent_of(agent, name="writer", policy=RERUN)
rerun_worker = fasta2a.agent_of(worker, name="writer", policy=RERUN)
