"""Users of NATS, one a role: each does its whole job with the permissions that are printed for it, and no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import structlog
from msgspec.structs import replace
from structlog.testing import capture_logs

from a2a_events import Turn, agent, limits
from a2a_events.errors import Forbidden, LogError
from a2a_events.log.jetstream import Connection, JetStreamLog, Names, StreamSettings, backup, provision
from a2a_events.log.jetstream.permissions import ROLES, permissions
from a2a_events.log.jetstream.wire import header_block
from a2a_events.log.port import AgentEntry
from a2a_events.model import TaskState
from a2a_events.runtime.retention import Removed, Retention
from a2a_events.runtime.sweeper import Sweeper
from a2a_events.runtime.transfer import export, fork
from a2a_events.services import doctor
from a2a_events.services.connect import connection
from a2a_events.settings import Settings, SettingsError
from a2a_events.testing import eventually
from a2a_events.timeline.ids import token
from a2a_events.timeline.record import Writer
from tests.contract.logs import new_task, offered, read_all
from tests.integration.guarded import guarded
from tests.integration.receiver import receiver
from tests.integration.stack import Stack
from tests.integration.test_push import Site, hook, pushing

pytestmark = pytest.mark.integration

SHARDS = 2
NAMES, STREAMS = Names("a2a"), StreamSettings("main", SHARDS, 1, 15.0)


class Broker:
    """A nats-server that knows the users of the roles, and who has signed in."""

    def __init__(self, url: str, exits: AsyncExitStack) -> None:
        self._url = url
        self._exits = exits

    def url(self, role: str) -> str:
        return f"nats://{role}:secret@{self._url}"

    async def connection(self, role: str) -> Connection:
        made = Connection([self.url(role)], name=role, inbox=NAMES.inbox(role))
        await made.open()
        self._exits.push_async_callback(made.close)
        return made

    async def log(self, role: str) -> JetStreamLog:
        return await JetStreamLog.open(await self.connection(role), NAMES, STREAMS)


@pytest.fixture(params=["any agent", "one agent"])
async def broker(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    agents = ["worker"] if request.param == "one agent" else []
    async with guarded(tmp_path, NAMES, ROLES, shards=SHARDS, agents=agents) as address, AsyncExitStack() as exits:
        broker = Broker(address, exits)
        await provision(await broker.connection("provisioner"), NAMES, STREAMS, agents=["worker"], notifier=True)
        yield broker


@agent(name="worker")
async def works(turn: Turn) -> None:
    if turn.text == "ask":
        turn.require_input("what else?")
    elif turn.text == "wait":
        await turn.sleep(1.0)
        await turn.artifact("slept")
    elif turn.text == "note":
        book = await turn.notebook("book")
        await book.add(b"noted")
        await book.replace(b"noted anew")
    elif turn.text == "raise":
        raise RuntimeError("broken")
    elif turn.text == "long":
        await turn.wait_canceled()
    elif turn.text == "remember":
        await turn.step("note", lambda: "noted")
        found = await turn.recall()
        assert await turn.remember("note", since=found.version)
        assert (await turn.recall()).steps
    else:
        await turn.artifact(turn.text)


async def test_each_role_does_its_whole_job(broker: Broker, tmp_path: Path) -> None:
    structlog.reset_defaults()
    with capture_logs() as said:
        gateways = [await broker.log("gateway") for _ in range(2)]
        stack = Stack([*gateways, await broker.log("worker")], pushing(works), STREAMS.ack_wait_seconds, 0)
        try:
            worker = await stack.worker()
            await (await broker.log("worker")).announce(AgentEntry("worker", b"{}"), "w1")
            site = Site(stack, [await broker.log("notifier")], STREAMS.ack_wait_seconds)
            await site.notifier()
            asked = await clients(stack, site)
            assert set(await gateways[0].agents()) == {"worker"}
            assert await gateways[0].queue_depth("worker") >= 0
            await operators(broker, stack, asked)
            await backup.save(await broker.connection("backup"), NAMES, "main", tmp_path / "backup")
            await upkeep(broker)
            assert await stack.kinds(asked) == "z"
            await worker.stop()
            await site.notifiers[0].stop()
        finally:
            await stack.close()
    assert [line for line in said if line["event"] in {"forbidden by nats", "nats error"}] == []


async def clients(stack: Stack, site: Site) -> str:
    """What clients ask of gateways, workers and notifiers; a task of theirs."""
    async with receiver() as one:
        pushed = await site.send("hello", hook(one, token="secret"))
        await site.got_all(one, pushed)
    assert (await stack.calls.send_task("x" * (limits.RECORD_BYTES + 10))).status.state is TaskState.COMPLETED
    asked = await stack.calls.send_task("ask")
    assert asked.status.state is TaskState.INPUT_REQUIRED
    assert (await stack.other.send_task("more", task_id=asked.id)).status.state is TaskState.COMPLETED
    assert (await stack.calls.send_task("wait")).status.state is TaskState.COMPLETED
    assert (await stack.calls.send_task("note")).status.state is TaskState.COMPLETED
    assert await stack.other.collect("streamed")
    assert (await stack.calls.send_task("remember")).status.state is TaskState.COMPLETED
    long = await stack.calls.send_task("long", immediately=True)
    await eventually(lambda: _is_working(stack, long.id))
    assert (await stack.other.cancel(long.id)).status.state is TaskState.CANCELED
    assert (await stack.calls.send_task("raise")).status.state is TaskState.FAILED
    assert len((await stack.other.page()).tasks) == 9
    return asked.id


async def operators(broker: Broker, stack: Stack, task_id: str) -> None:
    """What people do who look after it."""
    operator, timeline = await broker.log("operator"), await broker.log("timeline")
    (letter,) = [letter async for letter in operator.dead_letters()]
    await operator.forget_dead_letter(letter)
    found = await doctor.examine(Settings(nats=broker.url("operator"), shards=SHARDS))
    assert {one.check: one.level for one in found}["permissions"] == "ok"
    assert not [one for one in found if "may not look" in one.says]
    task = stack.ref(task_id)
    assert (await export(timeline, task)).records
    await fork(timeline, task, 1, Writer("operator", "test"))


async def upkeep(broker: Broker) -> None:
    """What runs every night, and after each upgrade."""
    sweeper = await broker.log("sweeper")
    assert await Sweeper(sweeper, Writer("sweeper", "test"), silence_seconds=3600.0).sweep() == 0
    await sweeper._content.store(new_task(sweeper), offered(0, size=limits.RECORD_BYTES))
    assert await sweeper.sweep(-1.0) == 1
    removing = await broker.log("retention")
    retention = Retention(removing, Writer("retention", "test"), older_than_seconds=0.0, grace_seconds=0.0)
    assert (await retention.run()).tasks >= 8
    assert await retention.run() == Removed()
    await removing.forget_contexts(token(""))
    await provision(await broker.connection("provisioner"), NAMES, STREAMS, agents=["worker"], notifier=True)


async def _is_working(stack: Stack, task_id: str) -> bool:
    return (await stack.calls.get(task_id)).status.state is TaskState.WORKING


API = "$JS.API"
LOG = NAMES.log_stream("main", 0)
FORBIDDEN = {
    "STREAM.DELETE": f"{API}.STREAM.DELETE.{LOG}",
    "CONSUMER.DELETE": f"{API}.CONSUMER.DELETE.{LOG}.worker-worker",
    "MSG.DELETE": f"{API}.STREAM.MSG.DELETE.{LOG}",
    "PURGE": f"{API}.STREAM.PURGE.{LOG}",
    "PURGE agents": f"{API}.STREAM.PURGE.{NAMES.registry_stream('main')}",
    "UPDATE": f"{API}.STREAM.UPDATE.{LOG}",
    "CREATE": f"{API}.STREAM.CREATE.OTHER",
    "other namespace": "other.log.main.0.agent.-.task.in",
    "other log": "a2a.log.other.0.agent.-.task.in",
    "write": "a2a.log.main.0.agent.-.task.in",
    "take": f"{API}.CONSUMER.MSG.NEXT.{LOG}.worker-worker",
    "take as notifier": f"{API}.CONSUMER.MSG.NEXT.{LOG}.notifier",
    "follow all": f"{API}.CONSUMER.CREATE.{LOG}.spy.a2a.log.main.0.>",
    "snapshot": f"{API}.STREAM.SNAPSHOT.{LOG}",
    "key": "a2a.push.main.key",
    "remember for others": "a2a.push.main.context.agent.-.context",
    "note for others": "a2a.notes.main.agent.-.context.book",
    "timer": "a2a.timer.main.set.0.agent.-.task",
    "announce": "a2a.registry.main.evil.card",
}
MAY: dict[str, set[str]] = {
    "gateway": {"write", "key"},
    "worker": {"write", "take", "timer", "announce"},
    "notifier": {"take as notifier", "key", "remember for others"},
    "timeline": {"write"},
    "operator": {"write", "key"},
    "sweeper": {"write"},
    "retention": {"PURGE"},
    "provisioner": {"UPDATE", "follow all", "announce"},
    "backup": {"snapshot"},
}

MAY_ANY_WORKER = {"take as notifier", "remember for others", "note for others"}


async def test_what_an_earlier_version_printed_is_enough_to_hear_answers(tmp_path: Path) -> None:
    """It let every role listen to all inboxes; so services are upgraded first, and then the permissions."""
    printed = permissions("gateway", NAMES, shards=SHARDS)
    earlier = {"gateway": replace(printed, subscribe=("_INBOX.>", *printed.subscribe[1:]))}
    async with (
        guarded(tmp_path, NAMES, ["gateway"], shards=SHARDS, made=earlier) as address,
        connection(Settings(nats=f"nats://gateway:secret@{address}"), "gateway") as made,
    ):
        assert await made.api(f"STREAM.INFO.{LOG}")


async def test_whose_user_signs_in_can_be_said(broker: Broker) -> None:
    """People's commands are the operator's by themselves, and run with the user of a service where that is there."""
    settings = Settings(nats=broker.url("timeline"), shards=SHARDS)
    async with connection(replace(settings, nats_role="timeline"), "stuck") as made:
        assert await made.api(f"STREAM.INFO.{LOG}")
    async with connection(settings, "stuck") as made:
        with pytest.raises(Forbidden, match="NATS_ROLE"):
            await made.api(f"STREAM.INFO.{LOG}")
    with pytest.raises(SettingsError, match="NATS_ROLE"):
        async with connection(replace(settings, nats_role="stuck"), "stuck"):
            pass


async def test_no_role_may_do_more(broker: Broker, request: pytest.FixtureRequest) -> None:
    narrow = "one agent" in request.node.name
    for role, may in MAY.items():
        made = await broker.connection(role)
        for what, subject in FORBIDDEN.items():
            if what in may or (not narrow and role == "worker" and what in MAY_ANY_WORKER):
                continue  # the other test does it
            assert await refused(made, subject), f"{role} may {what}"


async def test_one_message_does_not_remove_all_others(broker: Broker) -> None:
    """Who may write to a stream that allows rollups may empty it; wake-ups are the only one, NATS wants it so."""
    worker = await broker.log("worker")
    large, task = offered(0, size=limits.RECORD_BYTES), new_task(worker)
    await worker.try_append(task, large, 0)
    made = await broker.connection("worker")
    for subject in (
        f"$O.{NAMES.bucket('main')}.C.evil", NAMES.task("log", task, "in"), NAMES.task("snap", task, "head"),
        NAMES.progress("main", "evil"), NAMES.dead_letter(task), NAMES.card("main", "evil"),
    ):  # fmt: skip
        answer = await made.request(subject, b"{}", headers=header_block({"Nats-Rollup": "all"}))
        assert b"rollup" in answer.payload, (subject, answer.payload)
    gateway = await broker.log("gateway")
    assert [record.payload for record in await read_all(gateway, task)] == [large.payload]


async def refused(made: Connection, subject: str) -> bool:
    try:
        await made.request(subject, b"{}", timeout=3.0)
    except Forbidden:
        return True
    except LogError:
        return False
    return False
