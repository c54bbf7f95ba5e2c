"""While leadership moves two servers may both get a record: one refuses what the other stores (ADR 0002).

The refusals are those that fault runs have seen, put in the place of the answer that a real server gave.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from a2a_events.errors import Conflict, Uncertain
from a2a_events.log.append import append
from a2a_events.log.port import Log
from tests.contract.conftest import JETSTREAM
from tests.contract.logs import Kit, jetstream_kit, new_task, offered, read_all

Refuse = Callable[[str], None]

STOPPING = '{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 0"},"stream":"x","seq":0}'
"""Of a server that cannot read its store any more."""
LATE = '{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 7"},"stream":"x","seq":0}'
"""Of one that was sent the record by the new leader before it got the same from the writer."""
IN_FLIGHT = '{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"},"stream":"x","seq":0}'
"""Of one that waits for others to agree to what it has proposed, while they follow somebody else."""


@pytest.fixture(params=JETSTREAM)
async def kit(request: pytest.FixtureRequest, nats_url: str, namespace: str) -> AsyncIterator[Kit]:
    async with jetstream_kit(nats_url, namespace, raw=request.param == "raw") as made:
        yield made


@pytest.fixture
def log(kit: Kit) -> Log:
    return kit.log


@pytest.fixture
def refuse(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Let the next request be carried out, and answer it with a refusal."""
    connection = kit.connections[0]
    request: Callable[..., Awaitable[Any]] = connection.request

    def refuse_next(said: str) -> None:
        async def refused(*given: Any, **options: Any) -> Any:
            monkeypatch.setattr(connection, "request", request)
            answer = await request(*given, **options)
            return replace(answer, payload=said.encode())

        monkeypatch.setattr(connection, "request", refused)

    return refuse_next


@pytest.mark.parametrize("said", [STOPPING, LATE, IN_FLIGHT], ids=["stopping", "late", "in flight"])
async def test_a_record_that_is_stored_and_was_refused_is_found(log: Log, refuse: Refuse, said: str) -> None:
    task = new_task(log)
    first = await append(log, task, offered(0), 0)
    draft = offered(1)
    refuse(said)

    position = await append(log, task, draft, first)

    records = await read_all(log, task)
    assert [record.header.record_id for record in records][1:] == [draft.header.record_id]
    assert position == records[1].position


@pytest.mark.parametrize("said", [STOPPING, LATE, IN_FLIGHT], ids=["stopping", "late", "in flight"])
async def test_the_first_record_of_a_task_too(log: Log, refuse: Refuse, said: str) -> None:
    task = new_task(log)
    refuse(said)
    position = await append(log, task, offered(0), 0)
    assert [record.position for record in await read_all(log, task)] == [position]


async def test_what_is_refused_while_nothing_stands_there_is_uncertain(
    log: Log, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = new_task(log)
    first = await append(log, task, offered(0), 0)
    connection = kit.connections[0]
    request: Callable[..., Awaitable[Any]] = connection.request

    async def refused(subject: str, *given: Any, **options: Any) -> Any:
        monkeypatch.setattr(connection, "request", request)
        answer = await request("$JS.API.INFO", b"", headers=b"")  # a real answer, to be replaced: nothing is written
        return replace(answer, payload=STOPPING.encode())

    monkeypatch.setattr(connection, "request", refused)
    with pytest.raises(Uncertain, match="not true"):
        await log.try_append(task, offered(1), first)


async def test_what_is_in_flight_is_uncertain(log: Log, refuse: Refuse) -> None:
    refuse(IN_FLIGHT)
    with pytest.raises(Uncertain, match="being decided"):
        await log.try_append(new_task(log), offered(0), 0)


async def test_a_task_that_has_lost_its_records_is_a_conflict(log: Log) -> None:
    with pytest.raises(Conflict, match="wrong last sequence: 0"):
        await log.try_append(new_task(log), offered(1), 7)


async def test_another_record_is_a_conflict(log: Log) -> None:
    task = new_task(log)
    first = await append(log, task, offered(0), 0)
    await append(log, task, offered(1), first)
    with pytest.raises(Conflict, match="wrong last sequence"):
        await log.try_append(task, offered(1, record_id="another"), first)
