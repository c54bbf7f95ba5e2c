"""Updates on a terminal or as JSON lines, and the exit code they amount to.

What an agent says is data: on a terminal its control characters are shown as ``�``, so that it cannot move the cursor,
change the title or hide what came before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, Final, Protocol

import msgspec
from rich.console import Console
from rich.status import Status
from rich.text import Text

from a2a_events.cli.outcome import exit_of, program, resume, say
from a2a_events.cli.text import clean, text_of
from a2a_events.client import Updates
from a2a_events.model import (
    INTERRUPTED_STATES,
    TERMINAL_STATES,
    Artifact,
    Message,
    Part,
    StreamResponse,
    Task,
    TaskState,
    TaskStatus,
    encode,
)

_STYLES: Final = {
    TaskState.COMPLETED: "bold green",
    TaskState.FAILED: "bold red",
    TaskState.REJECTED: "bold red",
    TaskState.CANCELED: "bold yellow",
    TaskState.INPUT_REQUIRED: "bold yellow",
    TaskState.AUTH_REQUIRED: "bold yellow",
}


class Screen(Protocol):
    """Where updates go."""

    def show(self, response: StreamResponse, cursor: str | None) -> None:
        """One update."""
        ...

    def mention(self, said: str) -> None:
        """Something that happened on the way, for people."""
        ...

    def close(self) -> None:
        """No more will come."""
        ...


def screen(output: str | None) -> Screen:
    """What was asked for; otherwise text on a terminal and JSON lines elsewhere."""
    return Terminal() if output == "text" or (output is None and sys.stdout.isatty()) else JsonLines()


async def follow(updates: Updates, to: Screen, urls: Sequence[str]) -> int:
    """Show a stream to its end; the exit code. Interrupted, it says how to go on."""
    state: TaskState | None = None
    try:
        # A stream that has told that its task waits for us may end as it likes.
        with _failures_mentioned(lambda said: to.mention(said) if state not in INTERRUPTED_STATES else None):
            async with updates:
                async for update in updates:
                    state = update.state or state
                    to.show(update.response, update.cursor)
    except asyncio.CancelledError:
        to.close()
        if updates.task_id and state not in TERMINAL_STATES:
            say(f"the task goes on without you; follow it with: {resume(updates.task_id, updates.cursor, urls)}")
        raise
    finally:
        to.close()
    return _end(updates.task_id, state, urls)


def whole(response: StreamResponse, to: Screen, urls: Sequence[str]) -> int:
    """Show an answer that came at once; the exit code."""
    to.show(response, None)
    to.close()
    if response.task is None:
        return _end(None, None, urls)
    return _end(response.task.id, response.task.status.state, urls)


def _end(task_id: str | None, state: TaskState | None, urls: Sequence[str]) -> int:
    if task_id and state in INTERRUPTED_STATES:
        where = "".join(f" --url {url}" for url in urls)
        say(f'the agent waits for you; answer with: {program()} send{where} --task {task_id} "…"')
    return exit_of(state)


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run a command's coroutine; SIGTERM interrupts it as Ctrl-C does."""

    async def stoppable() -> int:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


class _Mentions(logging.Handler):
    def __init__(self, mention: Callable[[str], None]) -> None:
        super().__init__()
        self._mention = mention

    def emit(self, record: logging.LogRecord) -> None:
        self._mention(record.getMessage())


@contextlib.contextmanager
def _failures_mentioned(mention: Callable[[str], None]) -> Generator[None]:
    """Mention gateways that fail on the way."""
    client = logging.getLogger("a2a_events.client")
    handler = _Mentions(mention)
    level = client.level
    client.addHandler(handler)
    client.setLevel(logging.INFO)
    try:
        yield
    finally:
        client.removeHandler(handler)
        client.setLevel(level)


class JsonLines:
    """One update a line, flushed: what comes next in the pipe sees it at once."""

    def show(self, response: StreamResponse, cursor: str | None) -> None:
        """The StreamResponse, and the cursor beside its member."""
        line = encode(response)
        if cursor:
            line = b'%b,"cursor":%b}' % (line[:-1], msgspec.json.encode(cursor))
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()

    def mention(self, said: str) -> None:
        """On standard error, if somebody sits there."""
        if sys.stderr.isatty():
            say(said)

    def close(self) -> None:
        """Nothing to do."""


class Terminal:
    """For people: states on lines of their own, artifacts as running text, and a spinner while nothing comes."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
        self._spinner: Status | None = None
        self._artifact: str | None = None
        self._at_start = True
        self._mentioned = False
        self._wait("waiting for the agent")

    def show(self, response: StreamResponse, cursor: str | None) -> None:
        """One update."""
        del cursor
        self._mentioned = False
        self._stop_waiting()
        if response.task is not None:
            self._task(response.task)
        elif response.status_update is not None:
            self._status(response.status_update.status)
        elif response.artifact_update is not None:
            update = response.artifact_update
            self._chunk(update.artifact, append=update.append)
        elif response.message is not None:
            self._says(response.message)
            self._new_line()

    def mention(self, said: str) -> None:
        """Once for each silence: a gateway that stays away is not news."""
        if not self._mentioned:
            self._mentioned = True
            self._stop_waiting()
            self._new_line()
            say(said)
            self._wait("waiting for a gateway")

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._stop_waiting()
        self._new_line()

    def _task(self, task: Task) -> None:
        self._new_line()
        self._console.print(Text.assemble(("task ", "dim"), (clean(task.id), "bold")))
        for artifact in task.artifacts:
            self._chunk(artifact, append=False)
        self._status(task.status)

    def _status(self, status: TaskStatus) -> None:
        self._new_line()
        self._artifact = None
        style = _STYLES.get(status.state, "cyan")
        self._console.print(Text(status.state.name.lower().replace("_", " "), style))
        if status.message is not None:
            self._says(status.message)
            self._new_line()
        if status.state not in TERMINAL_STATES | INTERRUPTED_STATES:
            self._wait(status.state.name.lower())

    def _chunk(self, artifact: Artifact, *, append: bool) -> None:
        if self._artifact != artifact.artifact_id or not append:
            self._new_line()
            self._artifact = artifact.artifact_id
            named = f" ({clean(artifact.name)})" if artifact.name else ""
            self._console.print(Text(f"artifact {clean(artifact.artifact_id)}{named}", "dim"))
        self._write(artifact.parts)

    def _says(self, message: Message) -> None:
        self._write(message.parts)

    def _write(self, parts: tuple[Part, ...]) -> None:
        text = "".join(clean(text_of(part)) for part in parts)
        if text:
            self._console.print(Text(text), end="")
            self._at_start = text.endswith("\n")

    def _new_line(self) -> None:
        if not self._at_start:
            self._console.print()
            self._at_start = True

    def _wait(self, what: str) -> None:
        if self._console.is_terminal:
            self._spinner = self._console.status(Text(what, "dim"))
            self._spinner.start()

    def _stop_waiting(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None
