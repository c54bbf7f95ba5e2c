"""Notifiers that stop, crash and start all the time, webhooks that fail at random: nothing is lost or reordered."""

from __future__ import annotations

import asyncio
import random
from functools import partial

import pytest

from a2a_events.agents import scripted
from a2a_events.testing import eventually
from tests.integration.receiver import Received, Receiver, receiver
from tests.integration.test_push import PATIENT, Site, hook, script, site_of

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(180)]

TASKS = 40


async def churn(site: Site, chance: random.Random, calm: asyncio.Event, *, crashes: bool) -> None:
    """Replace one notifier after the other, until it is calm."""
    while not calm.is_set():
        await asyncio.sleep(chance.random() * 0.5)
        living = [one for one in site.notifiers if not one.task.done()]
        going = chance.choice(living)
        await site.notifier(PATIENT)
        await (going.vanish() if crashes and chance.random() < 0.5 else going.stop())


def has(to: Receiver, task_id: str, revision: int) -> bool:
    return any(one.revision == revision for one in to.of(task_id))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("crashes", [True, False], ids=["crashes", "stops"])
async def test_whoever_comes_and_goes_everything_comes_in_order(
    nats_url: str, namespace: str, seed: int, crashes: bool
) -> None:
    chance = random.Random(seed)

    async def flaky(_: Received) -> int:
        await asyncio.sleep(chance.random() ** 8)
        return chance.choices([200, 500, 0], [0.87, 0.1, 0.03])[0]

    # Where nobody crashes, nobody should be taken for dead on a busy machine either.
    wait = 1.0 if crashes else 10.0
    async with (
        site_of("jetstream", scripted, nats_url, namespace, ack_wait_seconds=wait) as site,
        receiver(flaky) as a,
        receiver(flaky) as b,
    ):
        for _ in range(3):
            await site.notifier(PATIENT)
        calm = asyncio.Event()
        churning = asyncio.create_task(churn(site, chance, calm, crashes=crashes))
        scripts = [script(chunks=chance.randrange(1, 60), delayMs=chance.choice([0, 3, 20, 60])) for _ in range(TASKS)]
        sending = [site.send(one, hook((a, b)[number % 2])) for number, one in enumerate(scripts)]
        task_ids = await asyncio.gather(*sending)
        calm.set()
        await churning
        repeated = 0
        for number, task_id in enumerate(task_ids):
            to = (a, b)[number % 2]
            expected = [revision for revision, _ in await site.expected(task_id)]
            await eventually(partial(has, to, task_id, expected[-1]), timeout_seconds=60)
            revisions = [one.revision for one in to.of(task_id)]
            assert sorted(set(revisions)) == expected
            assert revisions == sorted(revisions)
            repeated += len(revisions) - len(expected)
        assert len(site.notifiers) > 6
        assert crashes or not repeated
