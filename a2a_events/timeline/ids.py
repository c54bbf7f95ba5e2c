"""How tasks are named, and where a name says that the task lives.

A task id is ours alone: ``t1-<log>-<shard>-<random>``, within ``[A-Za-z0-9_-]`` and 64 characters. ``1`` is the version
of the format; log and shard say where every record of the task lives, so ids survive fail-over and more shards.
No other client string ever becomes part of a subject: it is hashed (:func:`token`), and its raw value stays in
payloads.
"""

from __future__ import annotations

import base64
import hashlib
import re

import msgspec
from msgspec import Struct

_TASK_ID = re.compile(r"t1-([a-z0-9]{1,16})-(0|[1-9][0-9]{0,2})-[A-Za-z0-9_-]{16,32}")
_TOKEN = re.compile(r"-|[a-z2-7]{26}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
RANDOM_BYTES = 16


class TaskRef(Struct, frozen=True, eq=True):
    """Everything the log needs to find one task: the id, and whose it is.

    Two callers who disagree about agent or tenant look at different subjects, so a foreign task is not there at all.
    """

    log: str
    shard: int
    agent: str
    tenant: str
    """The tenant's token, never its raw name."""
    task_id: str

    def __hash__(self) -> int:
        return hash(self.task_id)


class ContextRef(Struct, frozen=True):
    """Everything the log needs to find what is remembered of one context: whose it is, and with which agent.

    Two callers who choose the same context id look at different subjects, so nobody finds another's conversation.
    """

    log: str
    agent: str
    tenant: str
    """The tenant's token, never its raw name."""
    context: str
    """A token too: of who owns the context's tasks, and of the context's id."""


def context_of(task: TaskRef, *, subject: str, context_id: str) -> ContextRef:
    """The context that a task is part of.

    Args:
        task: one of its tasks.
        subject: who owns that task.
        context_id: as its client knows it.
    """
    named = f"{subject}\n{context_id}"
    if "\n" in subject:  # may be the beginning of somebody's context id; JSON has no line feed in it
        named = msgspec.json.encode((subject, context_id)).decode()
    return ContextRef(task.log, task.agent, task.tenant, token(named))


def task_id(log: str, shard: int, randomness: bytes) -> str:
    """The id of a new task.

    Args:
        log: name of the log, ``[a-z0-9]{1,16}``.
        shard: number of the shard, below 1,000.
        randomness: 16 bytes, random or derived from an idempotency key.
    """
    return f"t1-{log}-{shard}-{base64.urlsafe_b64encode(randomness).rstrip(b'=').decode('ascii')}"


def parse_task_id(text: str) -> tuple[str, int] | None:
    """Log and shard of a task id, or None if we never made this id."""
    match = _TASK_ID.fullmatch(text) if len(text) <= 64 else None  # noqa: PLR2004 -- the format's own bound
    return (match[1], int(match[2])) if match else None


def reference(text: str, *, agent: str, tenant: str) -> TaskRef | None:
    """Where the task of this id lives for this agent and raw tenant name, or None if we never made this id."""
    home = parse_task_id(text)
    return TaskRef(home[0], home[1], agent, token(tenant), text) if home else None


def token(raw: str) -> str:
    """A subject token for any string: 26 characters of base32(sha256), ``-`` for the empty string."""
    if not raw:
        return "-"
    return base64.b32encode(hashlib.sha256(raw.encode(errors="surrogatepass")).digest())[:26].decode("ascii").lower()


def is_token(text: str) -> bool:
    """Whether this may have been made by :func:`token`."""
    return _TOKEN.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether an operator's name (of an agent, an instance) can stand in a subject as it is."""
    return _NAME.fullmatch(text) is not None
