"""A recorded run in memory, to be altered: each alteration keeps the rest consistent, as a real fault would."""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from a2a_events.timeline.record import Header, Writer, pack, unpack, visible
from faults import history as h
from faults.checker import Result, Terms, judge, load
from faults.log_dump import Replica, StoredRecord, records, replicas, write_records, write_replica

FactT = TypeVar("FactT", bound=h.Fact)
SECOND = 1_000_000_000
STREAM = "MEMORY"


class Book:
    """Histories by file, the log, and what each replica has of it; replicas follow the log unless altered."""

    def __init__(self, folder: Path) -> None:
        self.lives = {history.path.name: list(history.events()) for history in h.histories(folder)}
        self.log = next(stored for _, stored in records(folder))
        self.servers = [server for _, server, _ in replicas(folder)]
        self.replicas: dict[str, list[Replica]] = {}
        self.lines: list[tuple[str, bytes]] = []
        """Bytes to write after a file's last event."""

    def copy(self) -> Book:
        """One that can be altered."""
        twin = copy(self)
        twin.lives = {life: list(events) for life, events in self.lives.items()}
        twin.log, twin.replicas, twin.lines = list(self.log), dict(self.replicas), []
        return twin

    def judge(self, folder: Path, terms: Terms | None = None) -> Result:
        """Write it down and judge it."""
        folder.mkdir(parents=True)
        for life, events in self.lives.items():
            (folder / life).write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in events))
        for life, line in self.lines:
            with (folder / life).open("ab") as file:
                file.write(line)
        write_records(folder, STREAM, self.log)
        for server in self.servers:
            write_replica(folder, STREAM, server, ((r.position, msgspec.json.encode(r)) for r in self.log))
        for server, messages in self.replicas.items():
            lines = b"".join(msgspec.json.encode(message) + b"\n" for message in messages)
            (folder / "log" / f"{STREAM}.{server}.replica.jsonl").write_bytes(lines)
        return judge(load(folder, terms))

    # --- histories ----------------------------------------------------------------------------------------------------

    def life(self, process: str) -> str:
        """The history of a process."""
        return next(life for life in self.lives if life.startswith(f"{process}."))

    def find(self, kind: type[FactT], keep: Callable[[FactT], bool] = lambda _: True) -> list[tuple[str, int]]:
        """Where facts of a kind stand: file and line."""
        return [
            (life, line)
            for life, events in self.lives.items()
            for line, event in enumerate(events)
            if isinstance(event.fact, kind) and keep(event.fact)
        ]

    def event(self, place: tuple[str, int]) -> h.Event:
        """What stands there."""
        return self.lives[place[0]][place[1]]

    def fact(self, place: tuple[str, int]) -> Any:
        """The fact that stands there."""
        return self.event(place).fact

    def alter(self, place: tuple[str, int], **members: Any) -> None:
        """Other members of the fact that stands there."""
        event, fact = self.event(place), self.fact(place)
        self.lives[place[0]][place[1]] = replace(event, fact=replace(fact, **members))

    def put(self, place: tuple[str, int], event: h.Event) -> None:
        """Another event there."""
        self.lives[place[0]][place[1]] = event

    def drop(self, place: tuple[str, int]) -> None:
        """Nothing there."""
        del self.lives[place[0]][place[1]]

    def end_of(self, place: tuple[str, int]) -> tuple[str, int]:
        """Where the call that begins there ends."""
        life, number = place[0], self.event(place).number
        return life, next(
            line for line, e in enumerate(self.lives[life]) if e.number == number and e.phase not in {"invoke", "note"}
        )

    def ended(
        self, kind: type[FactT], phase: str, keep: Callable[[FactT], bool] = lambda _: True
    ) -> list[tuple[str, int]]:
        """Where calls of a kind begin that ended so."""
        return [
            place
            for place in self.find(kind, keep)
            if any(
                e.number == self.event(place).number and e.phase == phase
                for e in self.lives[place[0]]
                if e.phase != "invoke"
            )
        ]

    def add(self, process: str, *events: h.Event) -> None:
        """Events before the last of a process."""
        life = self.life(process)
        self.lives[life][-1:-1] = list(events)

    def call(
        self, process: str, at_ns: int, operation: h.Operation, end: h.Outcome | str | None, took_ns: int = 1000
    ) -> None:
        """One more call: ended well, refused with a word, or never ended."""
        number = 1 + max(e.number for e in self.lives[self.life(process)])
        events = [h.Event(at_ns, process, "invoke", number, operation)]
        if isinstance(end, str):
            events.append(h.Event(at_ns + took_ns, process, "fail", number, None, end))
        elif end is not None:
            events.append(h.Event(at_ns + took_ns, process, "ok", number, end))
        self.add(process, *events)

    def streams(self, keep: Callable[[list[tuple[str, int]]], bool] = lambda _: True) -> list[list[tuple[str, int]]]:
        """Where the updates of each stream stand."""
        found: dict[int, list[tuple[str, int]]] = {}
        for place in self.find(h.Update):
            found.setdefault(self.fact(place).stream, []).append(place)
        return [places for places in found.values() if keep(places)]

    def end_ns(self) -> int:
        """When the last thing happened."""
        return max(event.at_ns for events in self.lives.values() for event in events)

    # --- the log ------------------------------------------------------------------------------------------------------

    def tasks(self, keep: Callable[[list[StoredRecord]], bool] = lambda _: True) -> list[str]:
        """Tasks of the log."""
        found: dict[str, list[StoredRecord]] = {}
        for record in self.log:
            found.setdefault(record.task, []).append(record)
        return [task for task, stored in found.items() if keep(stored)]

    def of(self, task: str) -> list[StoredRecord]:
        """The records of a task."""
        return [record for record in self.log if record.task == task]

    def appended(self, record: StoredRecord) -> tuple[str, int]:
        """Where the append of a record was invoked, the time it was stored."""
        record_id = header(record).record_id
        return self.ended(h.Append, "ok", lambda a: a.record_id == record_id)[0]

    def change(self, record: StoredRecord, *, payload: bytes | None = None, told: bool = False, **members: Any) -> None:
        """Another header or payload for a record; ``told``: its writer had meant it so."""
        made = replace(header(record), **members)
        changed = replace(record, header=pack(made), payload=record.payload if payload is None else payload)
        self.log[self.log.index(record)] = changed
        if told:
            self.alter(
                self.appended(record),
                payload=h.digest(changed.payload),
                revision=made.revision,
                kinds=made.kinds,
                epoch=made.epoch,
                record_id=made.record_id,
            )

    def store(
        self,
        task: str,
        kinds: str,
        *lines: bytes,
        writer: Writer | None = None,
        epoch: int = 0,
        expected: int | None = None,
        after: int = 0,
    ) -> StoredRecord:
        """One more record of a task, at the end of the log, properly offered and acknowledged."""
        stored = self.of(task)
        last = stored[-1]
        before = header(last)
        made = Header(
            record_id=random.randbytes(9).hex(),
            revision=before.last_revision + 1,
            kinds=kinds,
            generation=before.generation + visible(before.kinds),
            writer=writer or Writer("gateway", "gateway-1"),
            times=(before.times[-1],) * len(kinds),
            epoch=epoch,
        )
        position = max(record.position for record in self.log) + 1
        payload = b"\n".join(lines)
        record = StoredRecord(position, task, last.tenant, "out", -1, pack(made), payload)
        self.log.append(record)
        process = made.writer.instance
        offered = h.Append(
            task=task,
            record_id=made.record_id,
            expected=last.position if expected is None else expected,
            revision=made.revision,
            kinds=kinds,
            payload=h.digest(payload),
            epoch=epoch,
        )
        told = max(self.event(self.end_of(self.appended(last))).at_ns + 1000, after)
        self.call(process, told, offered, h.Stored(position=position))
        return record


def header(record: StoredRecord) -> Header:
    """The header of a record."""
    return unpack(record.header)


def kinds(records_of: list[StoredRecord]) -> str:
    """All kinds of a task's events, in order."""
    return "".join(header(record).kinds for record in records_of)


def line_of(record: StoredRecord, code: str) -> dict[str, Any]:
    """The first event of a kind in a record."""
    place = header(record).kinds.index(code)
    decoded: dict[str, Any] = msgspec.json.decode(record.payload.split(b"\n")[place])
    return decoded


def with_line(record: StoredRecord, code: str, line: dict[str, Any]) -> bytes:
    """The payload with the first event of a kind replaced."""
    lines = record.payload.split(b"\n")
    lines[header(record).kinds.index(code)] = msgspec.json.encode(line)
    return b"\n".join(lines)
