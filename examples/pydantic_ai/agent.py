"""An agent of pydantic-ai, as anybody would write it. Its model is a local stand-in for a real one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from pydantic_ai import Agent, ModelMessage, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel


async def stand_in(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
    """Answers a word at a time, and knows only what it is given: the messages of the conversation."""
    prompts = [str(part.content) for message in messages for part in message.parts if isinstance(part, UserPromptPart)]
    name = next((found[1] for prompt in prompts if (found := re.search(r"[Mm]y name is (\w+)", prompt))), None)
    if prompts[-1].endswith("?"):
        answer = f"Your name is {name}." if name else "I do not know your name."
    else:
        answer = f"Nice to meet you, {name}."
    for word in re.findall(r"\S+\s*", answer):
        await asyncio.sleep(0.05)
        yield word


companion = Agent(FunctionModel(stream_function=stand_in), name="companion", instructions="Be brief.")
