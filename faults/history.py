"""What every process of a faults run saw and did: one file a process life, one line an event.

An operation is written before its I/O (``invoke``) and after it: ``ok`` with what came of it, ``fail`` when nothing was
done for certain, ``info`` when nobody can know. A process that is killed leaves an invoke without an end: that is
``info`` too. What is no operation is a ``note``. Times are of ``CLOCK_MONOTONIC``: all processes of a host share it.

Each line is one ``write`` to a file opened for appending, so what was recorded survives ``kill -9``. Only the last line
of a file can be torn, and only by a host that went down.

::

    recorder = Recorder(folder, "driver")
    call = recorder.invoke(Send(client="c1", tenant="acme", message_id="m1", gateway="gateway-1"))
    ...
    call.ok(answer(task_json))  # or call.fail("TaskNotFound"), call.info("timed out")
    recorder.note(update(call.number, cursor, line))
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias

import msgspec
from msgspec import Struct

SUFFIX: Final = ".jsonl"
REPLAY: Final = "urn:a2a-events:replay:v1"
"""Metadata that the replay extension adds to an update: it is no part of what the agent said."""

FOREIGN: Final = 403
"""What a receiver answers to a call whose token is not that of the webhook."""

Phase: TypeAlias = Literal["invoke", "ok", "fail", "info", "note"]


class Fact(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="op"):
    """What one line says."""


# --- operations: ``invoke`` -------------------------------------------------------------------------------------------


class Request(Fact, frozen=True, kw_only=True):
    """Something that a client asks of a gateway."""

    client: str
    """Who asks, one after the other: what one client has seen it must not see undone (I13)."""
    gateway: str
    """Process name of whom it asks."""
    tenant: str = ""
    deadline_seconds: float = 0.0
    """An answer has to have come by then; 0 for none."""


class Send(Request, frozen=True, kw_only=True, tag="send"):
    """SendMessage or SendStreamingMessage. Ends with an :class:`Answer`; streams go on with :class:`Update`."""

    message_id: str
    """Its own for each message that the client means; repeated only to repeat the same request."""
    task: str = ""
    """The task that is answered; empty for a new one."""
    key: str = ""
    """Idempotency key."""
    body: str = ""
    """Digest of what was sent, to tell another body under the same key."""
    streaming: bool = False
    webhook: str = ""
    """Id of the webhook that comes with it."""
    poison: bool = False
    """The agent crashes on every attempt."""


class Get(Request, frozen=True, kw_only=True, tag="get"):
    """GetTask. Ends with an :class:`Answer`."""

    task: str
    final: bool = False
    """Asked after everything had healed and come to rest: judged against the final log."""


class ListTasks(Request, frozen=True, kw_only=True, tag="list"):
    """ListTasks, one page. Ends with a :class:`Page`."""

    walk: str = ""
    """The same for all pages of one listing."""
    final: bool = False
    """As of :class:`Get`. The final listings of one tenant at one gateway hold all of its tasks."""


class Cancel(Request, frozen=True, kw_only=True, tag="cancel"):
    """CancelTask. Ends with an :class:`Answer`."""

    task: str


class Subscribe(Request, frozen=True, kw_only=True, tag="subscribe"):
    """SubscribeToTask. Ends with :class:`Opened` when the answer begins, ``fail`` when it is refused."""

    task: str
    cursor: str = ""
    """Resume after this one; empty: begin with the Task."""
    resumes: int = 0
    """Number of the call whose stream broke, if this one goes on for it."""


class SetWebhook(Request, frozen=True, kw_only=True, tag="set_webhook"):
    """CreateTaskPushNotificationConfig. Ends with :class:`Done`."""

    task: str
    webhook: str
    """Its id, chosen by the client."""


class DeleteWebhook(Request, frozen=True, kw_only=True, tag="delete_webhook"):
    """DeleteTaskPushNotificationConfig. Ends with :class:`Done`."""

    task: str
    webhook: str


class Append(Fact, frozen=True, kw_only=True, tag="append"):
    """One try to store a record. Ends with :class:`Stored`; ``fail`` names the class of the LogError."""

    task: str
    record_id: str
    expected: int
    revision: int
    kinds: str
    payload: str
    """Digest of the payload as it was offered."""
    epoch: int = 0
    attempt: int = 0
    role: str = ""


class Acknowledge(Fact, frozen=True, kw_only=True, tag="acknowledge"):
    """A worker settles a delivered record. Ends with :class:`Done`."""

    task: str
    position: int
    count: int


class Fault(Fact, frozen=True, kw_only=True, tag="fault"):
    """The nemesis breaks something. ``invoke`` when it begins; ``ok`` with :class:`Bitten` when it has ended."""

    kind: str
    """Name of the scenario: ``kill_leader``."""
    target: str
    """Process name, server name or link."""
    loses: Literal["", "leader", "worker", "gateway"] = ""
    """What has to recover: recovery is measured from here."""
    shard: int = -1
    """Whose leader; -1 for all."""


# --- how operations end: ``ok`` ---------------------------------------------------------------------------------------


class Answer(Fact, frozen=True, kw_only=True, tag="answer"):
    """A Task (or a bare Message, without a state). Made by :func:`answer`."""

    task: str
    state: str = ""
    view: str = ""
    """Digest of status and artifacts (:func:`view_of`)."""
    revision: int = 0
    """Of the task as shown, where the server tells."""
    canaries: tuple[str, ...] = ()
    """Tenants whose canary stands in the answer's bytes."""


class Row(Struct, frozen=True, array_like=True):
    """One task of a page."""

    task: str
    state: str


class Page(Fact, frozen=True, kw_only=True, tag="page"):
    """A page of ListTasks."""

    rows: tuple[Row, ...]
    last: bool
    canaries: tuple[str, ...] = ()


class Opened(Fact, frozen=True, kw_only=True, tag="opened"):
    """The stream has begun."""


class Stored(Fact, frozen=True, kw_only=True, tag="stored"):
    """The record is durable."""

    position: int


class Done(Fact, frozen=True, kw_only=True, tag="done"):
    """No more to say."""


class Bitten(Fact, frozen=True, kw_only=True, tag="bitten"):
    """The fault is over."""

    evidence: str = ""
    """How it is known that it bit (``leader n1 -> n3``); empty: it did not."""


# --- notes ------------------------------------------------------------------------------------------------------------


class Started(Fact, frozen=True, kw_only=True, tag="started"):
    """A process life begins: the first line of every file."""

    pid: int
    wall_ns: int
    facts: dict[str, str] = {}
    """Seed, commit, settings: whatever a reader of the result will ask for."""


class Update(Fact, frozen=True, kw_only=True, tag="update"):
    """What a stream showed. Made by :func:`update`."""

    stream: int
    """Number of the call (send or subscribe) of this process that opened it."""
    kind: str
    """Member of the StreamResponse: ``task``, ``statusUpdate``, ``artifactUpdate``, ``message``."""
    task: str = ""
    cursor: str = ""
    digest: str = ""
    """Of the canonical JSON; of a Task its :func:`view_of`."""
    state: str = ""
    gap: bool = False
    """The server said that updates before this Task can no longer be shown."""
    canaries: tuple[str, ...] = ()


StreamEnding = Literal["closed", "drained", "left", "broken"]
"""The server ended it in good order; ended it with the advice to resume; the client left; the connection broke."""


class StreamEnd(Fact, frozen=True, kw_only=True, tag="stream_end"):
    """A stream is over."""

    stream: int
    how: StreamEnding
    silence_seconds: float = 0.0
    """Longest time without a byte, keep-alives counted."""
    view: str = ""
    """Digest of what the client added up, where it did."""


class Delivery(Fact, frozen=True, kw_only=True, tag="delivery"):
    """A worker was given a record."""

    task: str
    position: int
    count: int


class Fenced(Fact, frozen=True, kw_only=True, tag="fenced"):
    """A worker learned that it owns the turn no more."""

    task: str
    epoch: int


class Heal(Fact, frozen=True, kw_only=True, tag="heal"):
    """No fault is active any more, and none will come."""


class Webhook(Fact, frozen=True, kw_only=True, tag="webhook"):
    """A receiver was called. Made by :func:`webhook`."""

    task: str
    """That the body names; empty if the body is damaged."""
    config: str
    """That the path names."""
    digest: str
    """As that of an :class:`Update`."""
    body: str = ""
    """Digest of the bytes."""
    event_id: str = ""
    """What tells that two calls are of one event: task and revision, with a dot between."""
    status: int = 200
    """That the receiver answered with; none if below 100."""
    tenant: str = ""
    """Of whoever set the webhook; empty if nobody did."""
    canaries: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether the receiver answered 2xx."""
        return 200 <= self.status < 300

    @property
    def revision(self) -> int:
        """Of the update, as the event's id has it; 0 if that is no id of this task."""
        task, _, revision = self.event_id.rpartition(".")
        return int(revision) if task == self.task and revision.isdecimal() else 0


class Canary(Fact, frozen=True, kw_only=True, tag="canary"):
    """A text that stands in everything a tenant sends, and must be seen by nobody else."""

    tenant: str
    text: str


class Resources(Fact, frozen=True, kw_only=True, tag="resources"):
    """What is in use, by name (``consumers``, ``gateway-1 connections``, ``worker-2 rss_bytes``), at rest."""

    when: Literal["before", "after"]
    counts: dict[str, int]


class Closed(Fact, frozen=True, kw_only=True, tag="closed"):
    """The process ended in good order: every call of it should have ended too."""


Operation: TypeAlias = (
    Send | Get | ListTasks | Cancel | Subscribe | SetWebhook | DeleteWebhook | Append | Acknowledge | Fault
)
Outcome: TypeAlias = Answer | Page | Opened | Stored | Done | Bitten
Note: TypeAlias = Started | Update | StreamEnd | Delivery | Fenced | Heal | Webhook | Canary | Resources | Closed


class Event(Struct, frozen=True, omit_defaults=True):
    """One line."""

    at_ns: int = msgspec.field(name="t")
    process: str = msgspec.field(name="p")
    phase: Phase = msgspec.field(name="ph")
    number: int = msgspec.field(name="n", default=0)
    """Joins the ends of one call to its invoke, within one file; 0 for notes."""
    fact: Operation | Outcome | Note | None = msgspec.field(name="x", default=None)
    error: str = msgspec.field(name="e", default="")


# --- writing ----------------------------------------------------------------------------------------------------------


class Call:
    """An operation that was invoked. Exactly one of the three ends it."""

    __slots__ = ("_recorder", "number")

    def __init__(self, recorder: Recorder, number: int) -> None:
        self._recorder = recorder
        self.number = number

    def ok(self, outcome: Outcome = Done()) -> None:  # noqa: B008 -- frozen
        """It was done, and this came of it."""
        self._recorder.write("ok", self.number, outcome)

    def fail(self, error: str) -> None:
        """It was not done, for certain."""
        self._recorder.write("fail", self.number, None, error)

    def info(self, error: str) -> None:
        """Nobody knows whether it was done."""
        self._recorder.write("info", self.number, None, error)


class Recorder:
    """Writes the history of one life of a process; one system call an event.

    Args:
        folder: of all histories of the run; made if missing.
        process: its name; a process that is started again keeps it, and gets a new file.
        facts: for the reader of the result: seed, commit, settings.
    """

    def __init__(self, folder: Path, process: str, **facts: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.process = process
        self._calls = 0
        path = folder / f"{process}.{time.monotonic_ns()}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self.note(Started(pid=os.getpid(), wall_ns=time.time_ns(), facts=facts))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def invoke(self, operation: Operation) -> Call:
        """An operation is about to begin."""
        self._calls += 1
        self.write("invoke", self._calls, operation)
        return Call(self, self._calls)

    def note(self, note: Note) -> None:
        """Something was seen."""
        self.write("note", 0, note)

    def write(self, phase: Phase, number: int, fact: Operation | Outcome | Note | None, error: str = "") -> None:
        """One line. Use :meth:`invoke`, :meth:`note` and :class:`Call`."""
        event = Event(time.monotonic_ns(), self.process, phase, number, fact, error)
        os.write(self._file, _encode(event) + b"\n")

    def close(self) -> None:
        """The process ends in good order. Closing twice is harmless."""
        if self._file >= 0:
            self.note(Closed())
            os.close(self._file)
            self._file = -1


# --- what clients saw, made comparable --------------------------------------------------------------------------------


def digest(content: bytes) -> str:
    """Of bytes, short enough for a line."""
    return blake2b(content, digest_size=12).hexdigest()


def canonical(value: Any) -> bytes:
    """JSON with sorted members and no spaces: equal for equal values."""
    return _encode_sorted(value)


def answer(task: bytes, *, revision: int = 0, canaries: tuple[str, ...] = ()) -> Answer:
    """The answer that holds this Task (``{"id":…}``)."""
    shown = _decode(task)
    return Answer(
        task=shown["id"], state=shown["status"]["state"], view=view_of(shown), revision=revision, canaries=canaries
    )


def update(stream: int, cursor: str, line: bytes, canaries: tuple[str, ...] = ()) -> Update:
    """What a stream showed, out of the StreamResponse's JSON.

    Args:
        stream: number of the call that opened it.
        cursor: of the frame (``id:``), if it has one.
        line: ``{"statusUpdate":…}``; what the replay extension and A2A 1.1 add to it is left out.
        canaries: see :class:`Canaries`.
    """
    kind, inner, gap = _plain(line)
    task = inner["id"] if kind == "task" else inner.get("taskId", "")
    return Update(
        stream=stream,
        kind=kind,
        task=task,
        cursor=cursor,
        digest=view_of(inner) if kind == "task" else digest(canonical({kind: inner})),
        state=inner.get("status", {}).get("state", ""),
        gap=gap,
        canaries=canaries,
    )


def webhook(
    config: str,
    body: bytes,
    *,
    event_id: str = "",
    status: int = 200,
    tenant: str = "",
    found: tuple[str, ...] = (),
) -> Webhook:
    """A call of a receiver, out of what was posted: the JSON of a StreamResponse, or whatever came instead."""
    try:
        seen = update(0, "", body)
        task, content = seen.task, seen.digest
    except (ValueError, KeyError, TypeError, AttributeError):
        task = content = ""
    return Webhook(
        task=task,
        config=config,
        digest=content,
        body=digest(body),
        event_id=event_id,
        status=status,
        tenant=tenant,
        canaries=found,
    )


def _plain(line: bytes) -> tuple[str, dict[str, Any], bool]:
    ((kind, inner),) = _decode(line).items()
    inner.pop("generation", None)
    mark = inner.get("metadata", {}).pop(REPLAY, {})
    if not inner.get("metadata", True):
        del inner["metadata"]
    return kind, inner, bool(mark.get("gap"))


def view_of(task: dict[str, Any]) -> str:
    """Digest of what updates add up to: status and artifacts. The history is left out: clients see it in parts."""
    return view_digest(
        task["status"], (artifact_digest(a, parts_digest(a["parts"])) for a in task.get("artifacts", ()))
    )


def view_digest(status: dict[str, Any], artifacts: Iterable[bytes]) -> str:
    """:func:`view_of` out of the digests of its artifacts."""
    whole = blake2b(canonical(status), digest_size=12)
    for one in artifacts:
        whole.update(one)
    return whole.hexdigest()


def artifact_digest(members: dict[str, Any], parts: bytes) -> bytes:
    """Of an artifact: its members beside the parts, empty ones left out, and the digest of its parts."""
    rest = {name: value for name, value in members.items() if name != "parts" and value not in ("", [], {}, None)}
    return blake2b(canonical(rest) + parts, digest_size=12).digest()


def parts_digest(parts: Iterable[Any], before: bytes = b"") -> bytes:
    """Of a list of parts, chained: the digest of a longer list goes on from that of its beginning."""
    for part in parts:
        before = blake2b(before + canonical(part), digest_size=12).digest()
    return before


def place_of(cursor: str) -> tuple[int, int]:
    """Position and revision that a cursor of ours names; zeros for another server's, or none."""
    *_, position, revision = ["0", "0", *cursor.split(".")]
    return (int(position), int(revision)) if position.isdecimal() and revision.isdecimal() else (0, 0)


class Canaries:
    """Finds the texts that only one tenant may see.

    Args:
        texts: each tenant's canary.
    """

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = {tenant: text.encode() for tenant, text in texts.items()}

    def found_in(self, content: bytes) -> tuple[str, ...]:
        """Tenants whose canary stands in these bytes."""
        return tuple(tenant for tenant, text in self._texts.items() if text in content)


# --- reading ----------------------------------------------------------------------------------------------------------


class History(Struct, frozen=True):
    """One life of a process."""

    path: Path

    def lines(self) -> Iterator[bytes]:
        """Its lines, without one that was torn at the end."""
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line

    def events(self) -> Iterator[Event]:
        """Its events, in the order in which they happened.

        Raises:
            ValueError: a line is damaged, and is not the torn last one: the history proves nothing.
        """
        for number, line in enumerate(self.lines(), 1):
            try:
                yield _decode_event(line)
            except msgspec.DecodeError as error:
                raise ValueError(f"{self.path}:{number}: {error}") from None


def histories(folder: Path) -> list[History]:
    """All histories of a run."""
    return [History(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]


_encode: Final = msgspec.json.Encoder().encode
_encode_sorted: Final = msgspec.json.Encoder(order="sorted").encode
_decode: Final = msgspec.json.Decoder().decode
_decode_event: Final = msgspec.json.Decoder(Event).decode
