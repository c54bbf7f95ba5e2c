"""A whole system for each of two tenants on one server: the same names and ids, and nothing shared but the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import nats
import pytest
import pytest_asyncio
from msgspec import Struct
from nats.js.api import StreamConfig
from nats.js.errors import APIError

from a2a_events.bindings.identity.api_keys import new_key, written
from a2a_events.bindings.identity.port import Scope
from a2a_events.errors import Unavailable
from a2a_events.log.jetstream import JetStreamLog
from a2a_events.services import gateway, notifier, worker
from a2a_events.services.connect import connection, jetstream_log, names, stream_settings
from a2a_events.settings import Settings
from a2a_events.testing import eventually, free_port
from tests.contract.logs import new_task, offered, read_all
from tests.integration.accounts import OWNER, SHARDS, TENANTS, Shared, accounts
from tests.integration.receiver import receiver
from tests.interop.agents import AGENTS
from tests.interop.conftest import _are_served
from tests.interop.wire import BINDINGS, HTTP_JSON, Caller, script, send

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


class Site(Struct):
    """What a tenant has."""

    settings: Settings
    key: dict[str, str]
    """Header of a caller of this tenant."""

    def http(self, key: dict[str, str] | None = None) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.settings.base_url, timeout=10, headers=key or self.key)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with accounts(tmp_path_factory.mktemp("accounts")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sites(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Site]]:
    """Gateway, worker and notifier of each tenant, each with a key of its own. The tenants' callers are in one file."""
    keys = {tenant: new_key("ci", tenant=tenant, scopes=list(Scope)) for tenant in TENANTS}
    file = tmp_path_factory.mktemp("callers") / "keys.jsonl"
    file.write_bytes(written([line for _, line in keys.values()]))
    await shared.server.start()
    try:
        await shared.provision()
        async with AsyncExitStack() as exits:
            made: dict[str, Site] = {}
            for tenant in TENANTS:
                settings = await exits.enter_async_context(serving(shared, tenant, file))
                made[tenant] = Site(settings, {"X-API-Key": keys[tenant][0]})
            yield made
    finally:
        await shared.server.stop()


@asynccontextmanager
async def serving(shared: Shared, tenant: str, keys: Path) -> AsyncIterator[Settings]:
    stop, port = asyncio.Event(), free_port()
    caller = {"auth": "api_keys", "auth_api_keys": str(keys), "auth_tenant": tenant, "debug_api": True}
    more = {"port": port, "default_agent": "scripted", "push_allow_private": True, **caller}
    of = {role: shared.settings(tenant, role, **more) for role in ("gateway", "worker", "notifier")}
    async with (
        jetstream_log(of["worker"], "worker") as (working, _),
        jetstream_log(of["gateway"], "gateway") as (seen, made),
        jetstream_log(of["notifier"], "notifier") as (notifying, _),
        asyncio.TaskGroup() as services,
    ):
        services.create_task(worker.serve(working, of["worker"], list(AGENTS), stop))
        services.create_task(gateway.serve(seen, made, of["gateway"], stop))
        services.create_task(notifier.serve(notifying, of["notifier"], stop))
        await eventually(lambda: _are_served(of["gateway"].base_url, *(served.name for served in AGENTS)))
        yield of["gateway"]
        stop.set()


@pytest.mark.parametrize("binding", BINDINGS)
async def test_each_tenant_sends_streams_and_subscribes_in_its_own_account(
    sites: dict[str, Site], binding: str
) -> None:
    async def used(site: Site) -> str:
        async with site.http() as http, receiver() as hook:
            caller = Caller(http, binding)
            sent = await caller.call("SendMessage", send("hello"))
            assert sent["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
            config = {"taskPushNotificationConfig": {"url": hook.url}}
            frames = await caller.frames("SendStreamingMessage", send(script(chunks=5), configuration=config))
            task_id: str = frames[0].data["task"]["id"]
            assert frames[-1].state == "TASK_STATE_COMPLETED"
            asked = {"headers": {"Last-Event-ID": frames[2].id}}
            again = await caller.frames("SubscribeToTask", {"id": task_id}, **asked)
            assert [frame.data for frame in again] == [frame.data for frame in frames[3:]]
            listed = await caller.call("ListTasks", {})
            assert {sent["task"]["id"], task_id} <= {task["id"] for task in listed["tasks"]}
            await eventually(lambda: bool(hook.accepted))
            return task_id

    ids = dict(zip(TENANTS, await asyncio.gather(*(used(sites[tenant]) for tenant in TENANTS)), strict=True))
    for tenant, other in (TENANTS, TENANTS[::-1]):
        async with sites[tenant].http() as http:
            caller = Caller(http, binding)
            assert (await caller.refused("GetTask", {"id": ids[other]})).reason == "TASK_NOT_FOUND"
            listed = await caller.call("ListTasks", {})
            assert ids[other] not in {task["id"] for task in listed["tasks"]}


async def test_the_same_id_is_another_task_in_another_account(sites: dict[str, Site], shared: Shared) -> None:
    async with AsyncExitStack() as exits:
        logs: dict[str, JetStreamLog] = {}
        for tenant in TENANTS:
            logs[tenant], _ = await exits.enter_async_context(jetstream_log(sites[tenant].settings, "gateway"))
        task = new_task(logs["acme"])
        drafts = {tenant: offered(0) for tenant in TENANTS}
        for tenant in TENANTS:
            await logs[tenant].try_append(task, drafts[tenant], 0)  # where there is a record, this is a conflict
        for tenant in TENANTS:
            assert [record.payload for record in await read_all(logs[tenant], task)] == [drafts[tenant].payload]
        where = names(sites["globex"].settings)
        async with shared.connected("globex") as owner:
            purged = await owner.api(
                f"STREAM.PURGE.{where.log_stream('main', 0)}", {"filter": where.task("log", task, "*")}
            )
        assert purged["purged"] == 1
        assert await read_all(logs["globex"], task) == []
        assert [record.payload for record in await read_all(logs["acme"], task)] == [drafts["acme"].payload]


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_gateway_of_one_tenant_serves_no_other_s_callers(sites: dict[str, Site], binding: str) -> None:
    site, stranger = sites["acme"], sites["globex"].key

    async def appended() -> list[int]:
        async with jetstream_log(site.settings, "gateway") as (log, _):
            return [end.position for end in (await log.ends()).values()]

    before = await appended()
    async with site.http(stranger) as http:
        caller = Caller(http, binding)
        for operation, params in (
            ("SendMessage", send("hello")),
            ("SendStreamingMessage", send("hello")),
            ("GetTask", {"id": "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"}),
            ("ListTasks", {}),
        ):
            answer = await http.send(caller.request(operation, params))
            assert answer.status_code == httpx.codes.FORBIDDEN, (operation, answer.text)
            assert "of a tenant that is not served here" in answer.text
        timeline = await http.get("/debug/timelines/t1-main-0-AAAAAAAAAAAAAAAAAAAAAA")
        assert timeline.status_code == httpx.codes.FORBIDDEN
    assert await appended() == before
    async with site.http() as http:
        await Caller(http, binding).call("SendMessage", send("hello"))


async def test_an_account_has_no_more_streams_than_its_deployment_needs(sites: dict[str, Site], shared: Shared) -> None:
    owner = await nats.connect(shared.server.url, nkeys_seed=str(shared.keys / "acme" / f"{OWNER}.nk"))
    with pytest.raises(APIError, match="maximum number of streams"):
        await owner.jetstream().add_stream(StreamConfig(name="ONE_MORE", subjects=["more"]))
    await owner.close()


async def test_connections_of_one_account_are_bounded_and_others_are_free(
    sites: dict[str, Site], shared: Shared
) -> None:
    async with AsyncExitStack() as exits:

        async def fill() -> None:
            for _ in range(50):
                await exits.enter_async_context(connection(shared.settings("acme"), "many", patience_seconds=1.0))

        with pytest.raises(Unavailable):
            await fill()
        async with shared.connected("globex") as free:
            assert "error" not in await free.api("INFO")
        async with sites["acme"].http() as http:  # who is signed in goes on
            await Caller(http, HTTP_JSON).call("SendMessage", send("hello"))


async def test_who_fills_its_account_is_refused_and_no_other_is(tmp_path: Path) -> None:
    with accounts(tmp_path, storage_bytes=2 << 20) as shared:
        await shared.server.start()
        try:
            await shared.provision()
            async with AsyncExitStack() as exits:
                logs: dict[str, JetStreamLog] = {}
                for tenant in TENANTS:
                    made = await exits.enter_async_context(shared.connected(tenant, "gateway"))
                    settings = shared.settings(tenant, "gateway")
                    logs[tenant] = await JetStreamLog.open(made, names(settings), stream_settings(settings))

                async def write(tenant: str) -> None:
                    await logs[tenant].try_append(new_task(logs[tenant]), offered(0, size=200_000), 0)

                async def fill() -> None:
                    for _ in range(20):
                        await write("acme")

                with pytest.raises(Unavailable, match="resource"):
                    await fill()
                await write("globex")
                async with shared.connected("acme") as owner:
                    for shard in range(SHARDS):
                        await owner.api(f"STREAM.PURGE.A2A_LOG_main_{shard}")
                await write("acme")  # what was removed makes room
        finally:
            await shared.server.stop()
