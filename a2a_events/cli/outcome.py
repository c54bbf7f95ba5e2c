"""How a command ends: an exit code, and for errors one sentence that says whose fault it was and what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import IntEnum
from http import HTTPStatus
from typing import Final

import click

from a2a_events.errors import A2AError, LogError, UnauthenticatedError, Unavailable, UnavailableError, Uncertain
from a2a_events.model import TERMINAL_STATES, TaskState


class Exit(IntEnum):
    """Every exit code, as ``a2a-events --help`` lists them."""

    OK = 0
    FAILED = 1
    """The task did not complete, or an operation was refused."""
    USAGE = 2
    """The command line or a setting is wrong."""
    UNAVAILABLE = 3
    """Somebody who is needed is not there."""
    PIPE = 141
    """Whoever read our output has gone, as with ``| head``: 128 + SIGPIPE."""
    INTERRUPTED = 130


class Failure(Exception):
    """A command's own error: the sentence, and how to exit."""

    def __init__(self, sentence: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(sentence)
        self.code = code


def exit_of(state: TaskState | None) -> Exit:
    """The exit code for a task that was left in this state."""
    return Exit.FAILED if state in TERMINAL_STATES and state is not TaskState.COMPLETED else Exit.OK


def exit_code_of(command: Callable[[], object]) -> int:
    """Run a command; its exit code. What went wrong is said on standard error."""
    try:
        result = command()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return Exit.INTERRUPTED
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        code, sentence = explained
        say(f"error: {sentence}")
        return code
    return int(result) if isinstance(result, int) else Exit.OK


def say(sentence: str) -> None:
    """A sentence for people, beside the output: on standard error."""
    print(f"a2a-events: {sentence}", file=sys.stderr, flush=True)


def explain(error: Exception) -> tuple[Exit, str] | None:
    """Exit code and sentence for an error of the world; None for a mistake of ours, which deserves its traceback."""
    if isinstance(error, Failure):
        return error.code, str(error)
    if isinstance(error, A2AError):
        return _server_said(error)
    if isinstance(error, LogError):
        return _log_said(error)
    return _client_said(error) or _service_said(error)


def _server_said(error: A2AError) -> tuple[Exit, str]:
    message = error.message.rstrip(".")
    if isinstance(error, UnavailableError):
        return Exit.UNAVAILABLE, f"the server is not available: {message}"
    if isinstance(error, UnauthenticatedError):
        return Exit.FAILED, f"the server wants credentials: {message}; give them with --token, --api-key or --header"
    if error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Exit.FAILED, f"the server failed: {message}"
    fields = ", ".join(f"{field}: {text}" for field, text in error.violations if text != error.message)
    return Exit.FAILED, f"the server refused this: {message}{f' ({fields})' if fields else ''}"


def _log_said(error: LogError) -> tuple[Exit, str]:
    code = Exit.UNAVAILABLE if isinstance(error, Unavailable | Uncertain) else Exit.FAILED
    sentence = str(error)
    if "no NATS server" in sentence:
        sentence += "; start one with `a2a-events up`, or say where it is with --nats"
    return code, sentence


_START: Final = "start one with `a2a-events up`, or say where it is with --url"


def _client_said(error: Exception) -> tuple[Exit, str] | None:
    if "a2a_events.client" not in sys.modules:
        return None
    from a2a_events.client import BadAnswer, CardNotTrusted, ClientError, ConnectionFailed, NoAnswer, StreamInterrupted

    match error:
        case ConnectionFailed():
            return Exit.UNAVAILABLE, f"no gateway is there: {error.message}; {_START}"
        case StreamInterrupted():
            return Exit.UNAVAILABLE, f"{error.message}; the task goes on: {resume(error.task_id, error.cursor)}"
        case NoAnswer():
            return Exit.UNAVAILABLE, error.message
        case CardNotTrusted():
            return Exit.FAILED, error.message
        case BadAnswer():
            return Exit.FAILED, f"the server does not speak A2A 1.0: {error.message}"
        case ClientError():
            return Exit.FAILED, error.message
        case _:
            return None


def _service_said(error: Exception) -> tuple[Exit, str] | None:
    from a2a_events.settings import SettingsError

    if isinstance(error, SettingsError):
        return Exit.USAGE, str(error)
    if "a2a_events.runtime.worker" in sys.modules:
        from a2a_events.runtime.worker import Unfit

        if isinstance(error, Unfit):
            return Exit.FAILED, f"{error}; start again, without --in-process to have only the worker replaced"
    if "a2a_events.services.nats_server" in sys.modules:
        from a2a_events.services.nats_server import NatsServerFailed, NatsServerMissing

        if isinstance(error, NatsServerFailed | NatsServerMissing):
            return Exit.UNAVAILABLE, str(error)
    if "a2a_events.services.listener" in sys.modules:
        from a2a_events.services.listener import CannotListen

        if isinstance(error, CannotListen):
            return Exit.USAGE, str(error)
    if "a2a_events.services.up" in sys.modules:
        from a2a_events.services.up import NotReady, ServiceFailed

        if isinstance(error, ServiceFailed):
            return Exit.USAGE, str(error)
        if isinstance(error, NotReady):
            return Exit.UNAVAILABLE, str(error)
    return None


def program() -> str:
    """How to call this program from the same folder, as text for people to copy."""
    import shlex
    import shutil
    from pathlib import Path

    name = "a2a-events"
    called = Path(sys.argv[0])
    script = called if called.name == name else Path(sys.executable).with_name(name)
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m a2a_events.cli"
    found = shutil.which(name)
    return name if found and Path(found).resolve() == script.resolve() else shlex.quote(str(script))


def resume(task_id: str, cursor: str | None, urls: Sequence[str] = ()) -> str:
    """The command that goes on with a task."""
    where = "".join(f" --url {url}" for url in urls)
    return f"{program()} watch{where} {task_id}" + (f" --cursor {cursor}" if cursor else "")
