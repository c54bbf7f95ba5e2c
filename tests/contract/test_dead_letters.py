"""Dead letters: at most one a task, found without the log, and gone for good once forgotten."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from a2a_events import limits
from a2a_events.errors import Unavailable
from a2a_events.log.jetstream import JetStreamLog
from a2a_events.log.port import Letter, Log
from tests.contract.logs import Kit, new_task


def letter_of(log: Log, *, agent: str = "agent", tenant: str = "", shard: int = 0, revision: int = 5) -> Letter:
    return Letter(
        task=new_task(log, agent=agent, tenant=tenant, shard=shard),
        time=1_795_233_000_000,
        reason="the agent raised ValueError",
        attempts=3,
        revision=revision,
        epoch=4,
        context_id="context-1 é",
        tenant=tenant,
        agent_version="2.1.0",
    )


async def letters(log: Log, agent: str = "") -> list[Letter]:
    return [letter async for letter in log.dead_letters(agent)]


async def test_there_are_none_to_begin_with(kit: Kit) -> None:
    assert await letters(kit.log) == []
    assert await kit.log.dead_letter(new_task(kit.log)) is None


async def test_a_letter_is_found_by_its_task_by_its_agent_and_among_all(kit: Kit) -> None:
    one = letter_of(kit.log, agent="one", tenant="acme", shard=1)
    two = letter_of(kit.log, agent="two")
    await kit.log.put_dead_letter(one)
    await kit.log.put_dead_letter(two)

    assert await kit.other.dead_letter(one.task) == one
    assert await letters(kit.other) == [one, two]
    assert await letters(kit.other, "two") == [two]
    assert await letters(kit.other, "nobody") == []


async def test_more_letters_than_one_request_gives_are_listed_once_each(kit: Kit) -> None:
    put = [letter_of(kit.log, agent=f"agent-{number % 3}") for number in range(limits.SCAN_BATCH_RECORDS + 44)]
    await asyncio.gather(*(kit.log.put_dead_letter(letter) for letter in put))

    assert sorted(letter.task.task_id for letter in await letters(kit.other)) == sorted(x.task.task_id for x in put)
    assert {letter.task.agent for letter in await letters(kit.other, "agent-1")} == {"agent-1"}
    assert len(await letters(kit.other, "agent-1")) == 100


async def test_putting_a_letter_again_also_at_the_same_time_leaves_one(kit: Kit) -> None:
    letter = letter_of(kit.log)
    await asyncio.gather(*(log.put_dead_letter(letter) for log in [kit.log, kit.other] * 5))
    await kit.other.put_dead_letter(replace(letter, reason="said otherwise"))

    assert await letters(kit.log) == [letter]


async def test_a_forgotten_letter_is_gone_and_does_not_come_back(kit: Kit) -> None:
    letter, other = letter_of(kit.log), letter_of(kit.log)
    await kit.log.put_dead_letter(letter)
    await kit.log.put_dead_letter(other)
    await kit.other.forget_dead_letter(letter)
    await kit.other.forget_dead_letter(letter)
    await kit.log.put_dead_letter(letter)

    assert await letters(kit.log) == [other]
    assert await kit.log.dead_letter(letter.task) is None


async def test_a_later_letter_takes_the_place_of_one_that_said_less(kit: Kit) -> None:
    """A task that nobody could read, then could, and that was then given up."""
    later = letter_of(kit.log)
    early = replace(later, revision=0, reason="unreadable")
    await kit.log.put_dead_letter(early)
    await kit.other.put_dead_letter(later)
    await kit.log.put_dead_letter(early)
    assert await letters(kit.log) == [later]

    await kit.log.forget_dead_letter(early)
    assert await letters(kit.log) == [later]

    await kit.log.forget_dead_letter(later)
    assert await letters(kit.log) == []


async def test_a_letter_may_be_put_after_an_earlier_one_was_forgotten(kit: Kit) -> None:
    later = letter_of(kit.log)
    early = replace(later, revision=0)
    await kit.log.put_dead_letter(early)
    await kit.log.forget_dead_letter(early)
    await kit.other.put_dead_letter(later)

    assert await letters(kit.log) == [later]


async def test_a_letter_that_was_forgotten_before_it_was_put_is_not_put(kit: Kit) -> None:
    """An operator was faster than the worker."""
    letter = letter_of(kit.log)
    await kit.log.forget_dead_letter(letter)
    await kit.other.put_dead_letter(letter)

    assert await letters(kit.log) == []


async def test_without_its_stream_every_call_says_that_provisioning_is_due(kit: Kit) -> None:
    if not isinstance(kit.log, JetStreamLog):
        pytest.skip("a log in memory has no streams")
    letter = letter_of(kit.log)
    await kit.connections[0].api(f"STREAM.DELETE.{kit.log._names.dead_stream(kit.log.name)}")

    for call in (
        kit.log.put_dead_letter(letter),
        kit.log.dead_letter(letter.task),
        kit.log.forget_dead_letter(letter),
        letters(kit.log),
    ):
        with pytest.raises(Unavailable, match="a2a-events provision"):
            await call
