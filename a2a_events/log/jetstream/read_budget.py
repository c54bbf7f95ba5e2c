"""How many bytes batched reads of one connection may have on their way to us."""

from __future__ import annotations

import asyncio

from a2a_events import limits


class ReadBudget:
    """A NATS server cuts a connection that more waits for than its ``max_pending``, 64 MiB by default.

    Each reader that has fallen behind asks for megabytes, and they fall behind together: the subscribers of a task
    whose agent says much at once. So each gets what it may ask for out of one budget, less the more there are, and
    while there are ``limits.READS_AT_ONCE`` others wait for their turn.
    """

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(limits.READS_AT_ONCE)
        self._left = limits.READS_BYTES

    async def take(self) -> Share:
        """What one read may ask for; to be given back once it has arrived."""
        await self._turns.acquire()
        more = min(self._left // 4, limits.READ_BATCH_BYTES - limits.READ_LEAST_BYTES)
        self._left -= more
        return Share(self, more)

    def take_back(self, more: int) -> None:
        """For ``Share``: a read is over."""
        self._left += more
        self._turns.release()


class Share:
    """What one read may ask for.

    A server that does not answer must not hold up reads of others, so this is given back by itself when nothing has
    come for ``limits.READ_SILENCE_SECONDS``.
    """

    def __init__(self, budget: ReadBudget, more: int) -> None:
        self.most_bytes = limits.READ_LEAST_BYTES + more
        self._budget = budget
        self._more = more
        self._given_back = False
        self._silence = asyncio.get_running_loop().call_later(limits.READ_SILENCE_SECONDS, self.give_back)

    def answered(self) -> None:
        """Something has come: the rest is on its way."""
        self._silence.cancel()

    def give_back(self) -> None:
        """Nothing more is on its way. Once is enough, and more do no harm."""
        self._silence.cancel()
        if not self._given_back:
            self._given_back = True
            self._budget.take_back(self._more)
