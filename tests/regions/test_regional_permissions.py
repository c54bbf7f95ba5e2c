"""Users of NATS in two regions: what is printed for each role is enough for all that crosses regions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
import structlog
from msgspec.structs import replace
from structlog.testing import capture_logs

from a2a_events import limits
from a2a_events.cli.nats_permissions import _configuration
from a2a_events.errors import Unreachable
from a2a_events.log.jetstream import Connection, Names
from a2a_events.log.jetstream.permissions import ROLES, permissions, variable
from a2a_events.log.jetstream.takeover import fence, take_over
from a2a_events.model import TaskState
from a2a_events.services import provisioner as service
from a2a_events.settings import Settings
from a2a_events.testing import eventually
from faults.regions import EU, US, domain
from tests.integration.stack import RunningWorker
from tests.regions.two import Gateway, TwoRegions, shown, take

pytestmark = pytest.mark.integration

PASSWORD = "secret"


class Guarded(TwoRegions):
    """Both regions, where each service signs in as the user of its role. Whoever does not may do everything."""

    role = "provisioner"

    async def _start(self, region: str, more: str) -> None:
        others = {other: domain(other) for other in (EU, US) if other != region}
        names = Names(self.namespace)
        made = {role: permissions(role, names, log=region, shards=self._shards, regions=others) for role in ROLES}
        users = _configuration(made, {}, "a2a").replace(
            "  users: [", "  users: [\n    { user: everything, password: everything }"
        )
        more = more.replace("nats://", "nats://everything:everything@")
        await super()._start(region, f"{more}no_auth_user: everything\n{users}")

    @asynccontextmanager
    async def everything(self, region: str) -> AsyncIterator[Connection]:
        """As somebody who may do more than any role."""
        connection = Connection([self.servers[region].url], name="everything")
        await connection.open()
        try:
            yield connection
        finally:
            await connection.close()

    def settings(self, region: str) -> Settings:
        plain = super().settings(region)
        return replace(plain, nats=plain.nats.replace("nats://", f"nats://{self.role}:{PASSWORD}@"))

    async def gateway(self, region: str, **settings: str) -> Gateway:
        self.role = "gateway"
        return await super().gateway(region, **settings)

    async def worker(self, region: str, log: str = "") -> RunningWorker:
        self.role = "worker"
        return await super().worker(region, log)


async def test_roles_do_their_jobs_across_regions_and_after_a_fail_over(monkeypatch: pytest.MonkeyPatch) -> None:
    structlog.reset_defaults()
    for role in ROLES:
        monkeypatch.setenv(f"{variable(role, 'a2a')}_PASSWORD", PASSWORD)
    with capture_logs() as said:
        async with Guarded() as two:
            asked = await two.eu.calls.send_task("ask")
            await two.even()
            assert (await two.us.calls.get(asked.id)).status.state is TaskState.INPUT_REQUIRED
            async with aclosing(shown(await two.us.subscribe(asked.id))) as abroad:
                await take(abroad, 1)
                large = "x" * (limits.RECORD_BYTES + 10)
                await two.us.send(large, task_id=asked.id)
                while b"TASK_STATE_COMPLETED" not in (await anext(abroad)).line:
                    pass
            more = await two.eu.calls.send_task("ask")
            assert (await two.us.calls.cancel(more.id)).status.state is TaskState.CANCELED
            await two.even()
            assert {task.id for task in (await two.us.calls.page()).tasks} == {asked.id, more.id}

            kept = await two.eu.calls.send_task("ask")
            await two.even()
            two.role = "provisioner"
            names = Names(two.namespace)
            # A mirror that lacks what was removed before it was made, so that a fail-over has to ask what is newest.
            notes = names.push_stream(EU)
            async with two.everything(EU) as eu, two.everything(US) as us:
                for number in range(2):
                    await eu.request(names.progress(EU, str(number)))
                newest = (await eu.api(f"STREAM.INFO.{notes}"))["state"]["last_seq"]
                assert (await eu.api(f"STREAM.MSG.DELETE.{notes}", {"seq": newest}))["success"]
                assert (await us.api(f"STREAM.DELETE.{notes}"))["success"]
            assert (await service.run(two.settings(US)))[notes] == "created"
            provisioner = Connection([two.settings(US).nats], name="provisioner", inbox=names.inbox("provisioner"))
            await provisioner.open()
            try:
                assert (await take_over(provisioner, names, EU, domain(EU), lost=False)).planned
                assert not any((await fence(provisioner, names, EU, domain(EU))).beyond.values())
            finally:
                await provisioner.close()
            await two.worker(US, EU)

            async def completed() -> bool:
                return (await two.us.calls.get(kept.id)).status.state is TaskState.COMPLETED

            async def sent() -> bool:
                try:
                    await two.us.send("more", task_id=kept.id)
                except Unreachable:
                    return False
                return True

            await eventually(sent, timeout_seconds=20)
            await eventually(completed, timeout_seconds=30)
            # and in the log that the other region has now
            assert (await two.us.calls.send_task("of one's own")).status.state is TaskState.COMPLETED
    assert [line for line in said if line["event"] in {"forbidden by nats", "nats error"}] == []
