"""A leader that is being stopped may refuse what it has stored: the writer must find out, and not write it twice.

Its answer is that of a fault run, put in the place of the one that a real server gave.
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

Refuse = Callable[[int], None]


@pytest.fixture(params=JETSTREAM)
async def kit(request: pytest.FixtureRequest, nats_url: str, namespace: str) -> AsyncIterator[Kit]:
    async with jetstream_kit(nats_url, namespace, raw=request.param == "raw") as made:
        yield made


@pytest.fixture
def log(kit: Kit) -> Log:
    return kit.log


@pytest.fixture
def refuse(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Answer the next append as if it had been refused after this position."""
    connection = kit.connections[0]
    request: Callable[..., Awaitable[Any]] = connection.request

    def refuse_next(last: int) -> None:
        async def refused(*given: Any, **options: Any) -> Any:
            monkeypatch.setattr(connection, "request", request)
            answer = await request(*given, **options)
            said = (
                b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: %d"},"stream":"x","seq":0}'
            )
            return replace(answer, payload=said % last)

        monkeypatch.setattr(connection, "request", refused)

    return refuse_next


async def test_a_stored_record_that_was_refused_with_an_impossible_reason_is_found(log: Log, refuse: Refuse) -> None:
    task = new_task(log)
    first = await append(log, task, offered(0), 0)
    draft = offered(1)
    refuse(0)

    position = await append(log, task, draft, first)

    records = await read_all(log, task)
    assert [record.header.record_id for record in records][1:] == [draft.header.record_id]
    assert position == records[1].position


async def test_the_first_record_of_a_task_too(log: Log, refuse: Refuse) -> None:
    task = new_task(log)
    refuse(0)
    position = await append(log, task, offered(0), 0)
    assert [record.position for record in await read_all(log, task)] == [position]


async def test_an_attempt_that_was_refused_so_is_uncertain(log: Log, refuse: Refuse) -> None:
    task = new_task(log)
    first = await append(log, task, offered(0), 0)
    refuse(0)
    with pytest.raises(Uncertain, match="cannot be true"):
        await log.try_append(task, offered(1), first)


async def test_a_task_that_has_lost_its_records_is_a_conflict(log: Log) -> None:
    with pytest.raises(Conflict, match="wrong last sequence: 0"):
        await log.try_append(new_task(log), offered(1), 7)


async def test_a_later_last_record_is_a_conflict(log: Log) -> None:
    task = new_task(log)
    first = await append(log, task, offered(0), 0)
    await append(log, task, offered(1), first)
    with pytest.raises(Conflict, match="wrong last sequence"):
        await log.try_append(task, offered(1), first)
