"""ListTasks at size: ``python -m bench.listing [tasks]``. Fills a log, builds the index from nothing, asks for pages.

One caller owns every task, which is the hardest case for counting and for filters. Pages are asked of the operations
themselves, so the figures are the index's, without HTTP.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from a2a_events.agents import echo
from a2a_events.log.jetstream import Connection, JetStreamLog, Names, StreamSettings, provision
from a2a_events.model import ListTasksRequest, ListTasksResponse, TaskState
from a2a_events.runtime.caller import Caller
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.index import TaskIndex
from a2a_events.runtime.listing import Listing
from a2a_events.services.nats_server import NatsServer
from a2a_events.timeline.events import Actor, Submitted
from a2a_events.timeline.ids import RANDOM_BYTES, TaskRef, task_id, token
from a2a_events.timeline.record import Writer, draft, entry
from a2a_events.timeline.render import status_entry

_TASKS = 100_000
_AT_ONCE = 256
_ROUNDS = 20
_WRITER = Writer("gateway", "bench", "bench")
_AGENT = ServedAgent(echo.name, msgspec.structs.replace(echo.card), echo.replies)
_START = 1_790_000_000_000


async def _fill(log: JetStreamLog, numbers: range) -> None:
    """Tasks of two records each: submitted, then completed with a little text."""
    waiting = iter(numbers)

    async def write() -> None:
        for number in waiting:
            shard = number % log.shards
            new_id = task_id(log.name, shard, os.urandom(RANDOM_BYTES))
            task = TaskRef(log.name, shard, _AGENT.name, token(""), new_id)
            context = f"context-{number % 1000}"
            now = _START + number
            said = msgspec.Raw(msgspec.json.encode({"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}))
            submitted = Submitted(context_id=context, message=said, owner=Actor(), actor=Actor())
            state = TaskState.WORKING if number % 100 == 0 else TaskState.COMPLETED
            position = 0
            for revision, made in enumerate(
                [entry(submitted, now), status_entry(new_id, context, state, now + 1000, said)]
            ):
                record = draft(
                    [made],
                    record_id=os.urandom(9).hex(),
                    revision=revision,
                    generation=revision,
                    writer=_WRITER,
                    incarnation=log.incarnation(task),
                )
                position = await log.try_append(task, record, position)

    await asyncio.gather(*(write() for _ in range(_AT_ONCE)))


async def _main(tasks: int) -> None:
    with TemporaryDirectory(prefix="a2a-events-listing-") as folder:
        server = NatsServer(Path(folder), sync="2m")
        await server.start()
        connection = Connection([server.url], name="bench-listing")
        await connection.open()
        try:
            names, settings = Names(), StreamSettings()
            await provision(connection, names, settings)
            log = await JetStreamLog.open(connection, names, settings)
            begun = time.perf_counter()
            await _fill(log, range(tasks))
            print(f"{tasks:,} tasks of two records written in {time.perf_counter() - begun:.1f} s")
            await _measure(log)
        finally:
            await connection.close()
            await server.stop()


async def _measure(log: JetStreamLog) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    begun = time.perf_counter()
    index = TaskIndex(log)
    await index.caught_up(patience_seconds=600)
    took = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    grown = (after.ru_maxrss - before.ru_maxrss) / 1024
    print(f"cold rebuild: {took:.1f} s, {cpu:.1f} s of CPU here, {grown:.0f} MB")
    listing = Listing(log, index)
    deep = await _token_after(listing, 200)
    for name, request in [
        ("first page of 50", ListTasksRequest()),
        ("first page of 100", ListTasksRequest(page_size=100)),
        ("a page after 20,000 tasks", ListTasksRequest(page_size=100, page_token=deep)),
        ("by state, 1 % match", ListTasksRequest(status="TASK_STATE_WORKING")),
        ("by state, 99 % match", ListTasksRequest(status="TASK_STATE_COMPLETED")),
        ("by context, 0.1 % match", ListTasksRequest(context_id="context-7")),
        ("50 with history and artifacts", ListTasksRequest(history_length=10, include_artifacts=True)),
    ]:
        times = sorted([await _timed(listing, request) for _ in range(_ROUNDS)])
        print(f"{name}: median {statistics.median(times) * 1000:.1f} ms, slowest {times[-1] * 1000:.1f} ms")
    await index.close()


async def _token_after(listing: Listing, pages: int) -> str:
    following = ""
    for _ in range(pages):
        result = await listing.page(Caller(), _AGENT, ListTasksRequest(page_size=100, page_token=following))
        following = msgspec.json.decode(result.json, type=ListTasksResponse).next_page_token
    return following


async def _timed(listing: Listing, request: ListTasksRequest) -> float:
    begun = time.perf_counter()
    await listing.page(Caller(), _AGENT, request)
    return time.perf_counter() - begun


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else _TASKS))
