"""Reading one long task: ``python -m bench.timeline [events]``. Writes a log, and times the commands as processes.

In each round the commands take turns, with ``a2a-events --version`` first: what every command costs before it does
anything. Whatever else the machine does falls on all of them, so the ratios say more than the times.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Raw

from a2a_events.log.jetstream import Connection, JetStreamLog, Names, StreamSettings, provision
from a2a_events.model import Artifact, Message, Part, Role, TaskState, encode
from a2a_events.runtime.transfer import export
from a2a_events.services.nats_server import NatsServer
from a2a_events.timeline.bundle import write
from a2a_events.timeline.events import Actor, Submitted, TurnClaimed
from a2a_events.timeline.fold import Head, draft_after
from a2a_events.timeline.ids import RANDOM_BYTES, TaskRef, task_id, token
from a2a_events.timeline.record import Entry, Record, Writer, entry
from a2a_events.timeline.render import artifact_entry, status_entry

_EVENTS = 10_000
_ROUNDS = 5
_WRITER = Writer("worker", "bench", "bench")
_START = 1_790_000_000_000


async def _main(events: int) -> None:
    with TemporaryDirectory(prefix="a2a-events-timeline-") as folder:
        server = NatsServer(Path(folder) / "nats", sync="2m")
        await server.start()
        connection = Connection([server.url], name="bench-timeline")
        await connection.open()
        try:
            await provision(connection, Names(), StreamSettings())
            log = await JetStreamLog.open(connection, Names(), StreamSettings())
            task = await _fill(log, events)
            bundle = Path(folder) / "task.bundle.jsonl"
            bundle.write_bytes(write(await export(log, task)))
            await asyncio.to_thread(_measure, task.task_id, str(bundle), ["--nats", server.url], events)
            await log.close()
        finally:
            await connection.close()
            await server.stop()


async def _fill(log: JetStreamLog, events: int) -> TaskRef:
    """A task that says something, in records of one event each: the most that so many events can cost a reader."""
    task = TaskRef(log.name, 0, "bench", token(""), task_id(log.name, 0, os.urandom(RANDOM_BYTES)))
    said = Raw(encode(Message(message_id="m", role=Role.USER, parts=(Part(text="hello"),))))
    asked = Submitted(context_id="c", message=said, owner=Actor(), actor=Actor())
    head = Head()

    async def put(made: Entry, epoch: int = 1) -> None:
        draft = draft_after(
            head, [made], record_id=os.urandom(9).hex(), writer=_WRITER, incarnation=log.incarnation(task), epoch=epoch
        )
        position = await log.try_append(task, draft, head.position)
        head.apply(Record(position, draft.header, draft.payload, draft.inbound))

    await put(entry(asked, _START), 0)
    await put(entry(TurnClaimed(epoch=1, lease=head.position), _START))
    for number in range(events - 3):
        part = Artifact(artifact_id=f"artifact-{number // 1000}", parts=(Part(text=f"{number:06d} {'x' * 57}"),))
        append = number % 1000 > 0
        await put(artifact_entry(task.task_id, "c", part, _START + number, append=append, last_chunk=False))
    await put(status_entry(task.task_id, "c", TaskState.COMPLETED, _START + events))
    return task


def _measure(task: str, bundle: str, place: list[str], events: int) -> None:
    commands = {
        "--version": ["--version"],
        "timeline, ndjson": ["timeline", task, "-o", "ndjson", *place],
        "timeline, table": ["timeline", task, "-o", "table", *place],
        "timeline --compact": ["timeline", task, "-o", "table", "--compact", *place],
        "timeline --state completed": ["timeline", task, "-o", "ndjson", "--state", "completed", *place],
        "timeline of a bundle": ["timeline", bundle, "-o", "ndjson"],
        "show at the middle": ["show", f"{task}@{events // 2}", "-o", "json", *place],
        "diff of the last tenth": ["diff", task, str(events * 9 // 10), str(events), "-o", "json", *place],
        "export": ["export", task, "-o", "-", *place],
    }
    firsts: dict[str, list[float]] = {name: [] for name in commands}
    wholes: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(_ROUNDS):
        for name, command in commands.items():
            first, whole = _timed(command, 1 + ("table" in command))
            firsts[name].append(first)
            wholes[name].append(whole)
    least = statistics.median(wholes["--version"])
    print(f"a task of {events:,} events, medians of {_ROUNDS} rounds; ratios are to --version")
    for name in commands:
        first, whole = statistics.median(firsts[name]), statistics.median(wholes[name])
        print(f"{name:<27} first row {first * 1000:6.0f} ms ({first / least:4.1f}×)", end="")
        print(f"   all {whole * 1000:6.0f} ms ({whole / least:4.1f}×)")


def _timed(command: list[str], lines: int) -> tuple[float, float]:
    """Seconds to the first row, which is this line of the output, and to the end."""
    begun = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "a2a_events.cli", *command], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline(), command
        first = time.perf_counter() - begun
        while process.stdout.read(1 << 16):
            pass
    assert process.returncode == 0, command
    return first, time.perf_counter() - begun


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else _EVENTS))
