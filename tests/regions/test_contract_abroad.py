"""What every log promises of a task holds for one that is read from a mirror and written in another region."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from a2a_events.log.jetstream import RegionalLog
from a2a_events.log.port import Log
from a2a_events.services.connect import jetstream_log
from faults.regions import EU, US, Regions
from tests.contract import test_append, test_large, test_read, test_watch
from tests.contract.logs import Kit

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


class Abroad:
    """A gateway's log, whose tasks are all at home in the other region."""

    def __init__(self, log: RegionalLog) -> None:
        self._log = log
        self.name = EU

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def regions() -> AsyncIterator[Regions]:
    async with Regions() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def kit(regions: Regions) -> AsyncIterator[Kit]:
    async with AsyncExitStack() as exits:
        opened = [await exits.enter_async_context(jetstream_log(regions.settings(US), "test")) for _ in range(2)]
        logs: list[Any] = [Abroad(log) for log, _ in opened if isinstance(log, RegionalLog)]
        yield Kit("abroad", logs[0], logs[1], tuple(connection for _, connection in opened))


@pytest.fixture
def log(kit: Kit) -> Log:
    return kit.log


def _again(module: Any, *names: str) -> None:
    for name in names:
        globals()[name] = getattr(module, name)


_again(
    test_append,
    "test_a_stored_record_comes_back_as_it_was_offered",
    "test_positions_grow_within_a_task",
    "test_an_append_at_another_position_than_the_last_is_a_conflict_and_writes_nothing",
    "test_creating_a_task_twice_is_a_conflict",
    "test_the_condition_covers_both_lanes",
    "test_one_id_under_another_agent_or_tenant_is_another_task",
    "test_of_many_writers_at_one_position_exactly_one_wins",
    "test_writers_that_decide_again_after_a_conflict_all_get_through",
    "test_a_record_over_the_limit_is_refused_and_the_log_goes_on",
)
_again(
    test_read,
    "test_a_task_without_records_is_empty_in_every_way",
    "test_a_write_is_read_at_once_by_every_process",
    "test_first_after_gives_the_next_record_and_nothing_after_the_last",
    "test_reading_starts_at_a_position_inclusive",
    "test_more_records_than_one_batch_are_all_read_in_order",
    "test_payloads_survive_byte_for_byte",
)
_again(
    test_watch,
    "test_records_written_after_the_interest_arrive",
    "test_subscribe_then_read_loses_nothing_while_records_are_appended",
    "test_a_tail_from_the_beginning_shows_what_was_there_and_what_comes",
    "test_a_slow_watcher_falls_behind_and_still_gets_everything_in_order",
)
_again(
    test_large,
    "test_a_record_of_any_size_comes_back_whole_from_every_kind_of_read",
    "test_large_records_arrive_in_order_with_the_others_while_they_are_written",
)
