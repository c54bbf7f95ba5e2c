"""A :class:`~.turn.Turn` for code that blocks: the same input and reports, to be called in a thread.

Plain functions that are served as agents get one::

    def greet(turn: ThreadTurn) -> None:
        turn.artifact(f"Hello, {turn.text}")

and an async agent makes one for the part of its work that blocks::

    async def draw(turn: Turn) -> None:
        await turn.in_thread(render, ThreadTurn(turn))
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, overload

import msgspec

from a2a_events.model import Message, SendMessageConfiguration, Task, TaskState
from a2a_events.runtime.in_thread import ask
from a2a_events.runtime.turn import Content, Recollection, Turn

R = TypeVar("R")


class ThreadTurn:
    """The turn as threads see it. Every method waits for the event loop; several threads may call at once.

    A function that runs in :meth:`Turn.in_thread` and is to stop hears of it here: once the task is canceled or a
    deadline is over, each method raises ``asyncio.CancelledError``. It is no ``Exception``: let it pass. A function
    that has looked at :attr:`canceled` gets most of its grace time first. One that neither looks nor reports is not
    stopped by anything but the end of the process.

    Args:
        turn: made in the event loop.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._loop = asyncio.get_running_loop()

    # --- input --------------------------------------------------------------------------------------------------------

    @property
    def message(self) -> Message:
        """See :attr:`Turn.message`."""
        return self._turn.message

    @property
    def messages(self) -> list[Message]:
        """All messages that this turn was given, oldest first."""
        return list(self._turn.messages)

    @property
    def trace_headers(self) -> dict[str, str]:
        """See :attr:`Turn.trace_headers`."""
        return self._turn.trace_headers

    @property
    def text(self) -> str:
        """See :attr:`Turn.text`."""
        return self._turn.text

    @property
    def data(self) -> Any:
        """See :attr:`Turn.data`."""
        return self._turn.data

    @property
    def task(self) -> Task:
        """See :attr:`Turn.task`."""
        return self._turn.task

    @property
    def task_id(self) -> str:
        """Of the task."""
        return self._turn.task_id

    @property
    def context_id(self) -> str:
        """Of the conversation."""
        return self._turn.context_id

    @property
    def attempt(self) -> int:
        """1, or more when earlier workers disappeared."""
        return self._turn.attempt

    @property
    def configuration(self) -> SendMessageConfiguration:
        """How the caller wants the answer."""
        return self._turn.configuration

    @property
    def metadata(self) -> dict[str, Any]:
        """What the caller sent beside the message."""
        return self._turn.metadata

    @property
    def extensions(self) -> tuple[str, ...]:
        """URIs of the A2A extensions that are active for the message."""
        return self._turn.extensions

    @property
    def canceled(self) -> bool:
        """See :attr:`Turn.canceled`. Does not wait."""
        return self._turn.canceled

    def receive(self) -> Message:
        """See :meth:`Turn.receive`."""
        return self._ask(self._turn.receive)

    def receive_nowait(self) -> Message | None:
        """See :meth:`Turn.receive_nowait`."""
        return self._call(self._turn.receive_nowait)

    # --- reports ------------------------------------------------------------------------------------------------------

    def working(self, content: Content | None = None) -> None:
        """See :meth:`Turn.working`."""
        self._ask(lambda: self._turn.working(content))

    def status(self, state: TaskState, content: Content | None = None) -> None:
        """See :meth:`Turn.status`."""
        self._ask(lambda: self._turn.status(state, content))

    def artifact(
        self,
        content: Content,
        *,
        artifact_id: str | None = None,
        name: str = "",
        description: str = "",
        metadata: dict[str, Any] | None = None,
    ) -> str:
        """See :meth:`Turn.artifact`."""
        return self._ask(
            lambda: self._turn.artifact(
                content, artifact_id=artifact_id, name=name, description=description, metadata=metadata
            )
        )

    def chunk(
        self,
        artifact_id: str,
        content: Content,
        *,
        last: bool = False,
        name: str = "",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """See :meth:`Turn.chunk`."""
        self._ask(lambda: self._turn.chunk(artifact_id, content, last=last, name=name, metadata=metadata))

    def flush(self) -> None:
        """See :meth:`Turn.flush`."""
        self._ask(self._turn.flush)

    # --- what survives attempts ---------------------------------------------------------------------------------------

    @overload
    def step(self, name: str, do: Callable[..., Any], /, *args: Any) -> Any: ...
    @overload
    def step(self, name: str, do: Callable[..., Any], /, *args: Any, result: type[R]) -> R: ...

    def step(self, name: str, do: Callable[..., Any], /, *args: Any, result: Any = Any) -> Any:
        """See :meth:`Turn.step`. ``do`` is called in this thread."""
        numbered, recorded = self._ask(lambda: self._turn.begin_step(name))
        if recorded is None:
            done = do(*args)
            recorded = self._ask(lambda: self._turn.record_step(numbered, done))
        return msgspec.json.decode(recorded, type=result)

    def recall(self) -> Recollection:
        """See :meth:`Turn.recall`."""
        return self._ask(self._turn.recall)

    def remember(self, *steps: str, since: int) -> bool:
        """See :meth:`Turn.remember`."""
        return self._ask(lambda: self._turn.remember(*steps, since=since))

    def idempotency_key(self, name: str) -> str:
        """See :meth:`Turn.idempotency_key`."""
        return self._turn.idempotency_key(name)

    def sleep(self, seconds: float, *, name: str = "sleep") -> None:
        """See :meth:`Turn.sleep`. What leaves the function when the turn is suspended is no ``Exception``, either."""
        self._ask(lambda: self._turn.sleep(seconds, name=name))

    # --- endings ------------------------------------------------------------------------------------------------------

    def complete(self, content: Content | None = None) -> None:
        """See :meth:`Turn.complete`."""
        self._call(lambda: self._turn.complete(content))

    def fail(self, content: Content) -> None:
        """See :meth:`Turn.fail`."""
        self._call(lambda: self._turn.fail(content))

    def reject(self, content: Content | None = None) -> None:
        """See :meth:`Turn.reject`."""
        self._call(lambda: self._turn.reject(content))

    def require_input(self, content: Content | None = None) -> None:
        """See :meth:`Turn.require_input`."""
        self._call(lambda: self._turn.require_input(content))

    def require_auth(self, content: Content | None = None) -> None:
        """See :meth:`Turn.require_auth`."""
        self._call(lambda: self._turn.require_auth(content))

    def reply(self, content: Content) -> None:
        """See :meth:`Turn.reply`."""
        self._call(lambda: self._turn.reply(content))

    # ------------------------------------------------------------------------------------------------------------------

    def _ask(self, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
        return ask(self._loop, work)

    def _call(self, work: Callable[[], R]) -> R:
        async def called() -> R:
            return work()

        return ask(self._loop, called)
