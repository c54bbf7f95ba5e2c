"""Provisioning of several regions: it may begin anywhere, and waits for the others."""

from __future__ import annotations

import asyncio

import pytest

from a2a_events.errors import Unavailable
from a2a_events.log.jetstream import StreamSettings, provision, provision_mirrors
from a2a_events.log.jetstream.streams import ProvisionError
from a2a_events.services import provisioner
from a2a_events.testing import eventually
from faults.regions import EU, US, Regions, domain
from tests.regions.pair import SHARDS, Pair

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


async def test_a_region_that_is_provisioned_first_waits_for_the_other_one(joined: Regions) -> None:
    async with Pair(joined) as pair:
        first = asyncio.create_task(provisioner.run(pair.settings(US)))

        async def own_part() -> bool:
            return "error" not in await pair.info(US, pair.names.registry_stream(US))

        await eventually(own_part)
        eu = await provisioner.run(pair.settings(EU))
        us = await first
        for made in (eu, us):
            streams = {*pair.streams(EU), *pair.streams(US)}
            assert {made[stream] for stream in streams} == {"created"}


async def test_mirrors_are_made_of_a_log_that_is_there_as_a_whole_or_not_at_all(joined: Regions) -> None:
    async with Pair(joined) as pair:
        settings, others = StreamSettings(US, SHARDS), {EU: domain(EU)}
        with pytest.raises(Unavailable, match="has no log 'eu' yet"):
            await provision_mirrors(pair.us, pair.names, settings, others)
        await provision(pair.eu, pair.names, StreamSettings(EU, SHARDS))
        await pair.delete(EU, pair.names.registry_stream(EU))  # the last that is made
        with pytest.raises(Unavailable, match="not all of it"):
            await provision_mirrors(pair.us, pair.names, settings, others)
        assert "error" in await pair.info(US, pair.names.log_stream(EU, 0))
        await provision(pair.eu, pair.names, StreamSettings(EU, SHARDS))
        assert {*(await provision_mirrors(pair.us, pair.names, settings, others)).values()} == {"created"}


async def test_two_logs_of_one_name_are_not_taken_for_one(joined: Regions) -> None:
    async with Pair(joined) as pair:
        for connection in (pair.eu, pair.us):
            await provision(connection, pair.names, StreamSettings(EU, SHARDS))
        with pytest.raises(ProvisionError, match="this domain writes a log of that name itself"):
            await provision_mirrors(pair.us, pair.names, StreamSettings(US, SHARDS), {EU: domain(EU)})
