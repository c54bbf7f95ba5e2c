"""One walk along each task of the final log: I2, I3, I7, and all that other rules ask of the log.

What events mean is written down here a second time, from ``docs/turns.md``: the product's fold is judged against it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from faults.checker.findings import Findings
from faults.checker.run import LogRecord
from faults.history import artifact_digest, canonical, digest, parts_digest, view_digest

TERMINAL: Final = frozenset({"TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED"})
WAITING: Final = frozenset({"TASK_STATE_INPUT_REQUIRED", "TASK_STATE_AUTH_REQUIRED"})
PUBLIC: Final = frozenset("SAM")
VISIBLE: Final = frozenset("sSA")
TURN: Final = frozenset("smuxcrnehptLSAM")
"""What may not follow the end. Webhooks come and go after it, and so may kinds that are not known here."""


class Public(Struct, frozen=True, gc=False):
    """What clients see of one event."""

    revision: int
    position: int
    kind: str
    digest: str
    state: str


class Message(Struct, frozen=True, gc=False):
    """A client's message in the log."""

    position: int
    message_id: str
    tenant: str
    subject: str
    key: str


class Claim(Struct, frozen=True, gc=False):
    """A worker took the turn."""

    position: int
    epoch: int
    attempt: int
    instance: str


class Served(Struct):
    """A webhook, from the revision that set it to the last one that it is owed."""

    config: str
    after: int
    until: int
    replaced: bool = False
    """It was set anew or deleted: what it did not have by then it will not get."""
    attempts: int = 0
    """That were made before it was given up; 0: it was not."""


class Timeline:
    """A task as the log has it."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.records: list[LogRecord] = []
        self.by_id: dict[str, LogRecord] = {}
        self.tenant = ""
        self.subject = ""
        self.replies = "task"
        self.public: list[Public] = []
        self.views: list[tuple[int, str]] = []
        """Revision and view after each event that changed what clients see."""
        self.rests: set[int] = set()
        """Revisions at which the task waited for its client, judged at the end of a record."""
        self.pauses: set[int] = set()
        """Revisions at which nobody had to act: it waited for its client, or for a timer."""
        self.ends: set[int] = set()
        """Last revision of each record: a fold never stands between."""
        self.messages: list[Message] = []
        self.claims: list[Claim] = []
        self.webhooks: list[Served] = []
        self.deleted: set[str] = set()
        """Webhooks that were deleted at some time."""
        self.dead_letters = 0
        self.attempts = 0
        """That the dead letter says were made."""
        self.state = "TASK_STATE_SUBMITTED"
        self.end: Public | None = None
        self.end_text = False
        """Whether the terminal status says why."""
        self.epoch = 0
        self.open = False
        self.released = False
        """Somebody is to go on with the turn, and nobody has begun."""
        self.suspended = False
        self.until = 0
        """When a suspended turn goes on, milliseconds of the wall clock."""
        self.handled = 0
        self.settled: list[tuple[int, int]] = []
        """Up to which message deliveries were settled, and by the record at which position; both grow."""
        self.cancel = 0
        self.unknown = 0

    @property
    def resting(self) -> bool:
        """Whether nobody has to act: it has ended, or waits for its client."""
        idle = not self.open and not self.suspended and not self.released and not self.waiting()
        return self.end is not None or (idle and self.state in WAITING)

    @property
    def replied(self) -> bool:
        """Whether the whole answer was a bare Message."""
        return self.end is not None and self.end.kind == "message"

    def waiting(self) -> list[Message]:
        """Messages that no ended turn was given, nor an ending has named."""
        return [m for m in self.messages if m.position > self.handled and m.message_id not in self._unread]

    def settled_at(self, position: int) -> int:
        """Position of the record that settled a message; 0 if none did."""
        by = next((at for upto, at in self.settled if upto >= position), 0)
        end = self.end.position if self.end is not None else 0
        return min(by, end) if by and end else by or end

    def view_at(self, revision: int) -> str:
        """What clients see at a revision."""
        found = ""
        low, high = 0, len(self.views)
        while low < high:
            middle = (low + high) // 2
            if self.views[middle][0] <= revision:
                found, low = self.views[middle][1], middle + 1
            else:
                high = middle
        return found

    # --- the walk -----------------------------------------------------------------------------------------------------

    _unread: set[str]

    def walk(self, records: list[LogRecord], findings: Findings) -> None:
        """Go along the records in the order of the stream, and judge each by those before it."""
        self._unread = set()
        self._unnamed = 0
        self._findings = findings
        self._content = _Content()
        self._lease, self._delivery, self._sign, self._nudged, self._owner = 0, 0, 0, 0, ""
        self.records = records
        position = revision = generation = 0
        time = 0
        for record in records:
            header = record.header
            findings.check(
                header.revision == revision + 1 and record.position > position,
                "I3",
                self.task,
                f"revision {header.revision} at {record.position} does not follow {revision} at {position}",
                record,
            )
            findings.check(
                record.expected in {position, -1},
                "I3",
                self.task,
                f"the record at {record.position} expected {record.expected}, and the one before stands at {position}",
                record,
            )
            findings.check(
                header.record_id not in self.by_id, "I3", self.task, f"record {header.record_id} stands twice", record
            )
            findings.check(
                header.generation == generation + 1,
                "I3",
                self.task,
                f"generation {header.generation} at {record.position} does not follow {generation}",
                record,
            )
            findings.check(
                header.times[0] >= time, "I3", self.task, f"the writer's time falls at {record.position}", record
            )
            self.by_id.setdefault(header.record_id, record)
            self._record(record)
            position, revision, time = record.position, header.last_revision, header.times[-1]
            generation += sum(code in VISIBLE for code in header.kinds)
            self.ends.add(revision)
            if self.end is None and self.resting:
                self.rests.add(revision)
            if self.resting or self.suspended:
                self.pauses.add(revision)
        self._judge_end()

    def _record(self, record: LogRecord) -> None:
        header, check = record.header, self._findings.check
        epoch = self.epoch
        check(
            not header.epoch or header.epoch >= epoch,
            "I7",
            self.task,
            f"a record of epoch {header.epoch} follows epoch {epoch}",
            record,
        )
        if header.epoch and header.epoch == epoch:
            check(
                header.writer.instance == self._owner,
                "I7",
                self.task,
                f"{header.writer.instance} wrote under epoch {epoch}, which {self._owner} claimed",
                record,
            )
            self._sign = record.position
        lines = record.payload.split(b"\n")
        if len(lines) != len(header.kinds):
            self._findings.broken(
                "I9", self.task, f"{len(lines)} lines for kinds {header.kinds!r} at {record.position}", record
            )
            return
        for place, (code, line) in enumerate(zip(header.kinds, lines, strict=True)):
            try:
                ((member, fact),) = _decode(line).items()
                self._event(code, member, fact, record, place)
            except (ValueError, KeyError, TypeError, AttributeError):  # whatever bytes there may be
                self._findings.broken(
                    "I9", self.task, f"event {place} of the record at {record.position} is damaged", record
                )
        check(
            header.epoch <= self.epoch,
            "I7",
            self.task,
            f"a record of epoch {header.epoch}, which nobody claimed",
            record,
        )

    def _event(self, code: str, member: str, fact: dict[str, Any], record: LogRecord, place: int) -> None:
        revision, position = record.header.revision + place, record.position
        check = self._findings.check
        if self.end is not None and code in TURN:
            self._findings.broken(
                "I2", self.task, f"{member} at {position} follows the end at {self.end.position}", record
            )
            if code not in PUBLIC:
                return
        elif not self.views and code != "s":
            self._findings.broken("I3", self.task, f"the task begins with {member}", record)
        match code:
            case "s" | "m":
                self._message(fact, position)
                if code == "s":
                    self._content.status = {"state": self.state, "timestamp": _iso(record.header.times[place])}
                    self.views.append((revision, self._content.view()))
            case "u":
                self._unread.update(fact.get("messageIds", ()))
                self._unnamed += fact.get("more", 0)
            case "x":
                self.cancel = self.cancel or position
            case "c":
                self._claim(fact, record)
            case "r":
                check(
                    (self.open or self.suspended) and fact["epoch"] == self.epoch,
                    "I7",
                    self.task,
                    f"a turn of epoch {fact['epoch']} is released, and the owner's is {self.epoch}",
                    record,
                )
                self.open, self.suspended, self.released = False, False, True
            case "n":
                self._nudged = position if fact["epoch"] == self.epoch else self._nudged
            case "p" | "t" | "h":
                check(
                    self.open and fact["epoch"] == self.epoch,
                    "I7",
                    self.task,
                    f"a {member} of epoch {fact['epoch']}, and the owner's is {self.epoch}",
                    record,
                )
                if code == "h":
                    self.open, self.suspended, self.until = False, True, fact["until"]
                    self.settled.append((fact["given"], position))
            case "e":
                self._turn_over(fact, record)
            case "S" | "A" | "M":
                self._public(code, member, fact, revision, record)
            case "w":
                self._replaced(fact["id"])
                self.webhooks.append(Served(fact["id"], revision, 1 << 62))
            case "d":
                self._replaced(fact["id"])
                self.deleted.add(fact["id"])
            case "l":
                self._given_up(fact, record)
            case "L":
                self.dead_letters += 1
                self.attempts = fact["attempts"]
            case _:
                self.unknown += 1

    def _message(self, fact: dict[str, Any], position: int) -> None:
        actor = fact.get("actor", {})
        if not self.messages:
            owner = fact.get("owner", {})
            self.tenant, self.subject = owner.get("tenant", ""), owner.get("subject", "anonymous")
            self.replies = fact.get("replies", "task")
        self.messages.append(
            Message(
                position,
                fact["message"].get("messageId", ""),
                actor.get("tenant", ""),
                actor.get("subject", "anonymous"),
                fact.get("idempotencyKey", ""),
            )
        )

    def _claim(self, fact: dict[str, Any], record: LogRecord) -> None:
        check, epoch, lease = self._findings.check, fact["epoch"], fact["lease"]
        delivery = fact.get("delivery", 1)
        check(
            epoch == self.epoch + 1,
            "I7",
            self.task,
            f"claim {epoch} follows claim {self.epoch}",
            record,
        )
        renewed = record.header.epoch == self.epoch  # by the owner itself
        evidence = renewed or (lease == self._lease and delivery > self._delivery) or self._nudged > self._sign
        check(
            not self.open or evidence,
            "I7",
            self.task,
            f"claim {epoch} takes an open turn of epoch {self.epoch} without evidence that its owner is gone",
            record,
            f"it rests on delivery {delivery} of {lease}, the owner's on delivery {self._delivery} of {self._lease}",
        )
        self.epoch, self.open, self.suspended, self.released = epoch, True, False, False
        self._lease, self._delivery, self._sign, self._nudged = lease, delivery, record.position, 0
        self._owner = record.header.writer.instance
        self.claims.append(Claim(record.position, epoch, fact.get("attempt", 1), self._owner))

    def _turn_over(self, fact: dict[str, Any], record: LogRecord) -> None:
        self._findings.check(
            self.open and fact["epoch"] == self.epoch,
            "I7",
            self.task,
            f"a turn of epoch {fact['epoch']} ends, and the owner's is {self.epoch if self.open else 'nobody'}",
            record,
        )
        self.open = self.suspended = self.released = False
        self.handled = max(self.handled, fact["handled"])
        self.settled.append((self.handled, record.position))
        if self.cancel:
            self._findings.check(
                "S" in record.header.kinds,
                "I2",
                self.task,
                f"the turn ends at {record.position} after the cancel at {self.cancel}, and not with CANCELED",
                record,
            )

    def _public(self, code: str, member: str, fact: dict[str, Any], revision: int, record: LogRecord) -> None:
        state = fact.get("status", {}).get("state", "") if code == "S" else ""
        shown = Public(revision, record.position, member, digest(canonical({member: fact})), state)
        self.public.append(shown)
        if self.end is not None:
            return
        if code == "S":
            self.state, self._content.status = state, fact["status"]
            self.views.append((revision, self._content.view()))
        elif code == "A":
            self._content.artifact(fact)
            self.views.append((revision, self._content.view()))
        if code == "M" or state in TERMINAL:
            self.end, self.end_text = shown, "message" in fact.get("status", {})
            if self.cancel:
                self._findings.check(
                    state == "TASK_STATE_CANCELED",
                    "I2",
                    self.task,
                    f"the task ends {state or 'with a reply'} after the cancel at {self.cancel}",
                    record,
                )

    def _replaced(self, config: str) -> None:
        for served in self.webhooks:
            if served.config == config:
                served.replaced = True

    def _given_up(self, fact: dict[str, Any], record: LogRecord) -> None:
        set_at, revision = (fact["config"], fact["configRevision"]), fact["revision"]
        served = next((s for s in self.webhooks if (s.config, s.after) == set_at), None)
        if served is None or served.replaced or served.attempts or served.after >= revision:
            text = f"webhook {fact['config']} is given up at revision {revision}, and does not wait for it"
            self._findings.broken("I14", self.task, text, record)
        if served is not None:
            served.until, served.attempts = revision - 1, fact["attempts"]

    def _judge_end(self) -> None:
        check, last = self._findings.check, self.records[-1]
        check(
            self.resting or self.suspended,
            "I2",
            self.task,
            f"the task neither ended nor waits for its client: it is {self.state}"
            + (f", epoch {self.epoch} owns the turn" if self.open else ""),
            last,
        )
        if self.resting:
            lost = self.waiting()[self._unnamed :]
            check(
                not lost,
                "I6",
                self.task,
                f"message {lost[0].message_id if lost else ''} was accepted, and neither handled nor named as unread",
                *(f"message {m.message_id} at {m.position}, handled up to {self.handled}" for m in lost),
            )


class _Content:
    """Status and artifacts as updates add up (specification 4.2)."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}
        self._artifacts: dict[str, tuple[dict[str, Any], bytes]] = {}
        self._digests: dict[str, bytes] = {}

    def artifact(self, fact: dict[str, Any]) -> None:
        """One update of an artifact."""
        given: dict[str, Any] = fact["artifact"]
        name: str = given["artifactId"]
        parts = given.get("parts", [])
        members = {key: value for key, value in given.items() if key != "parts"}
        if fact.get("append") and name in self._artifacts:
            known, chain = self._artifacts[name]
            metadata = {**known.get("metadata", {}), **members.get("metadata", {})}
            members = {**known, **{key: value for key, value in members.items() if value}, "metadata": metadata}
            self._artifacts[name] = members, parts_digest(parts, chain)
        else:
            self._artifacts[name] = members, parts_digest(parts)
        self._digests[name] = artifact_digest(*self._artifacts[name])

    def view(self) -> str:
        """Its digest."""
        return view_digest(self.status, self._digests.values())


def _iso(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
