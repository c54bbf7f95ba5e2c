"""Taking a log over and fencing the old home: what is refused, before anything is changed, and what may be repeated."""

from __future__ import annotations

import pytest

from a2a_events.errors import NotProvisioned
from a2a_events.log.jetstream import JetStreamLog, StreamSettings, takeover
from a2a_events.log.jetstream.takeover import take_over
from a2a_events.services.connect import jetstream_log
from faults.regions import EU, US, domain
from tests.contract.logs import new_task, offered
from tests.regions.pair import Pair

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


async def _taken(pair: Pair, *, lost: bool = False) -> takeover.TakenOver:
    return await take_over(pair.us, pair.names, EU, domain(EU), lost=lost)


# --- who may write ----------------------------------------------------------------------------------------------------


async def test_a_process_whose_own_log_is_a_mirror_does_not_start(pair: Pair) -> None:
    """It would take the log for one that nobody has taken over, and write where nobody takes anything in."""
    with pytest.raises(NotProvisioned, match="region-promote"):
        await JetStreamLog.open(pair.us, pair.names, StreamSettings(EU))
    with pytest.raises(NotProvisioned, match="region-promote"):
        async with jetstream_log(pair.settings(US, log=EU), "worker"):
            pass
    await _taken(pair)
    async with jetstream_log(pair.settings(US, log=EU), "worker") as (log, _):
        assert await log.try_append(new_task(log), offered(0), 0)
