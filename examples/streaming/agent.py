"""An agent that streams what a language model says; the model is one that runs anywhere and costs nothing."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from itertools import pairwise

READ = """
a log is a list of facts . a fact is never changed . a task is what its facts amount to . a reader who comes late reads
the log . a worker who dies leaves its facts in the log . the log is the truth .
"""


class Model:
    """A small language model: which word follows which in what it has read."""

    def __init__(self, text: str) -> None:
        self._next: dict[str, list[str]] = defaultdict(list)
        words = text.split()
        for word, after in pairwise(words):
            self._next[word].append(after)

    async def stream(self, prompt: str, *, tokens: int) -> AsyncIterator[str]:
        """Continue a prompt, token by token; the same prompt always in the same way."""
        chance = random.Random(prompt)  # noqa: S311 -- a model's, not a secret's
        word = prompt.rsplit(maxsplit=1)[-1]
        for _ in range(tokens):
            word = chance.choice(self._next.get(word) or ["the"])
            yield word
            await asyncio.sleep(0.02)  # it thinks


model = Model(READ)


async def poet(text: str) -> AsyncIterator[str]:
    """Goes on with what it is told."""
    async for token in model.stream(text, tokens=20):
        yield f"{token} "
