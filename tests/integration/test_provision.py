"""Provisioning: what is missing is made, what another version made is changed, what somebody changed is refused."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest

from a2a_events.log.jetstream import Connection, JetStreamLog, Names, StreamSettings, inspect, provision, streams
from a2a_events.log.jetstream.drift import MADE_AS
from a2a_events.log.jetstream.streams import ProvisionError
from a2a_events.log.port import AgentEntry

pytestmark = pytest.mark.integration

SETTINGS = StreamSettings("main", 2)


@pytest.fixture
async def connection(nats_url: str) -> AsyncIterator[Connection]:
    made = Connection([nats_url], name="test-provision")
    await made.open()
    yield made
    await made.close()


async def config_of(connection: Connection, stream: str) -> dict[str, Any]:
    config: dict[str, Any] = (await connection.api(f"STREAM.INFO.{stream}"))["config"]
    return config


async def changed(connection: Connection, stream: str, **settings: object) -> dict[str, Any]:
    """The stream, after an operator has set these."""
    config = await config_of(connection, stream) | settings
    answer = await connection.api(f"STREAM.UPDATE.{stream}", config)
    assert "error" not in answer, answer
    return await config_of(connection, stream)


async def test_what_is_missing_is_made_and_then_verified(connection: Connection, namespace: str) -> None:
    names = Names(namespace)
    first = await provision(connection, names, SETTINGS, agents=["greet"], notifier=True)
    assert set(first.values()) == {"created"}
    consumers = {name for name in first if "/" in name}
    shards = [names.log_stream("main", shard) for shard in range(2)]
    wanted = {f"{stream}/{consumer}" for stream in shards for consumer in ("worker-greet", "notifier")}
    assert consumers == wanted | {f"{names.timer_stream('main')}/worker-greet"}
    again = await provision(connection, names, SETTINGS, agents=["greet"], notifier=True)
    assert set(again.values()) == {"verified"}
    assert set(again) == set(first)


async def test_consumers_of_announced_agents_are_made_anew_when_they_are_gone(
    connection: Connection, namespace: str
) -> None:
    names = Names(namespace)
    await provision(connection, names, SETTINGS)
    log = await JetStreamLog.open(connection, names, SETTINGS)
    await log.announce(AgentEntry("greet", b"{}"), "w1")
    stream = names.log_stream("main", 1)
    first = await provision(connection, names, SETTINGS)
    assert first[f"{stream}/worker-greet"] == "created"
    await connection.api(f"CONSUMER.DELETE.{stream}.worker-greet")
    again = await provision(connection, names, SETTINGS)
    assert again[f"{stream}/worker-greet"] == "created"
    assert again[f"{names.log_stream('main', 0)}/worker-greet"] == "verified"


async def test_looking_changes_nothing(connection: Connection, namespace: str) -> None:
    names = Names(namespace)
    found = await inspect(connection, names, SETTINGS, agents=["greet"])
    assert {one.state for one in found} == {"missing"}
    assert (await connection.api(f"STREAM.INFO.{names.log_stream('main', 0)}"))["error"]["code"] == 404


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("log", {"republish": None}, "republish no value where {"),
        ("log", {"subjects": ["other.>"], "republish": None}, 'has subjects ["other.>"] where'),
        ("log", {"deny_purge": True}, "a backup would bring it back: use another log (--log) or namespace"),
        ("snap", {"max_msgs_per_subject": 5}, "has max_msgs_per_subject 5 where 1 is needed"),
        ("dead", {"max_msgs_per_subject": -1}, "has max_msgs_per_subject no value where 1 is needed"),
        ("content", {"discard": "old"}, 'has discard no value where "new" is needed'),
    ],
)
async def test_what_somebody_changed_is_refused_by_name_and_nothing_is_touched(
    connection: Connection, namespace: str, kind: str, settings: dict[str, Any], said: str
) -> None:
    names = Names(namespace)
    await provision(connection, names, SETTINGS)
    if "subjects" in settings:
        settings = {**settings, "subjects": [f"{namespace}.other.>"]}
        said = said.replace("other.>", f"{namespace}.other.>")
    stream = {
        "log": names.log_stream("main", 1),
        "snap": names.snapshot_stream("main"),
        "dead": names.dead_stream("main"),
        "content": f"OBJ_{names.bucket('main')}",
    }[kind]
    mine = await changed(connection, stream, **settings)
    await connection.api(f"STREAM.DELETE.{names.push_stream('main')}")
    with pytest.raises(ProvisionError) as refused:
        await provision(connection, names, SETTINGS)
    assert f"stream {stream} has " in str(refused.value)
    assert said in str(refused.value)
    assert await config_of(connection, stream) == mine
    missing = await connection.api(f"STREAM.INFO.{names.push_stream('main')}")
    assert missing["error"]["err_code"] == 10059, "nothing is made while something is refused"


async def test_a_log_that_is_written_at_the_server_s_leisure_is_refused_and_snapshots_are_not(
    connection: Connection, namespace: str
) -> None:
    names, one = Names(namespace), StreamSettings("main", 1)
    for config in streams.configurations(names, one):
        log = config["name"] == names.log_stream("main", 0)
        other = {**config, "persist_mode": "async"} if log else {k: v for k, v in config.items() if k != "persist_mode"}
        assert "error" not in await connection.api(f"STREAM.CREATE.{config['name']}", other)
    with pytest.raises(ProvisionError) as refused:
        await provision(connection, names, one)
    assert f'{names.log_stream("main", 0)} has persist_mode "async" where no value is needed' in str(refused.value)
    assert "SNAP" not in str(refused.value)


async def test_every_difference_is_named_at_once(connection: Connection, namespace: str) -> None:
    names = Names(namespace)
    await provision(connection, names, SETTINGS)
    await changed(connection, names.snapshot_stream("main"), max_msgs_per_subject=5)
    await changed(connection, names.push_stream("main"), max_msgs_per_subject=7)
    with pytest.raises(ProvisionError, match=r"SNAP_main has .*PUSH_main has "):
        await provision(connection, names, SETTINGS)


async def test_a_consumer_that_somebody_changed_is_refused(connection: Connection, namespace: str) -> None:
    names = Names(namespace)
    await provision(connection, names, SETTINGS, agents=["greet"])
    stream = names.log_stream("main", 0)
    config = (await connection.api(f"CONSUMER.INFO.{stream}.worker-greet"))["config"]
    await connection.api(
        f"CONSUMER.CREATE.{stream}.worker-greet.{config['filter_subject']}",
        {"stream_name": stream, "config": config | {"max_deliver": 3}, "action": "update"},
    )
    with pytest.raises(ProvisionError, match=f"consumer worker-greet of stream {stream} has max_deliver 3"):
        await provision(connection, names, SETTINGS, agents=["greet"])


async def test_what_an_operator_chooses_stays(connection: Connection, namespace: str) -> None:
    names = Names(namespace)
    await provision(connection, names, SETTINGS)
    stream = names.log_stream("main", 0)
    mine = await changed(connection, stream, max_bytes=1 << 30, compression="s2", description="ours", discard="new")
    dead = await changed(connection, names.dead_stream("main"), max_age=int(3600e9), placement={"tags": []})
    assert set((await provision(connection, names, SETTINGS)).values()) == {"verified"}
    assert await config_of(connection, stream) == mine
    assert await config_of(connection, names.dead_stream("main")) == dead


def made_by_another_version(monkeypatch: pytest.MonkeyPatch, stream: str, **settings: object) -> None:
    """Let this version's provisioning make this stream with these settings."""
    ours = streams.configurations

    def theirs(names: Names, chosen: StreamSettings, *, epoch: int, live: str) -> list[dict[str, Any]]:
        found = copy.deepcopy(ours(names, chosen, epoch=epoch, live=live))
        return [config | settings if config["name"] == stream else config for config in found]

    monkeypatch.setattr(streams, "configurations", theirs)


async def test_what_another_version_made_is_changed_and_nothing_else(
    connection: Connection, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(namespace)
    stream = names.log_stream("main", 0)
    with monkeypatch.context() as before:
        made_by_another_version(before, stream, republish=None, allow_msg_ttl=False)
        await provision(connection, names, SETTINGS)
    old = await changed(connection, stream, max_bytes=1 << 30, compression="s2")
    assert "republish" not in old
    done = await provision(connection, names, SETTINGS)
    assert done.pop(stream) == "updated"
    assert set(done.values()) == {"verified"}
    new = await config_of(connection, stream)
    assert new["republish"]["dest"] == f"{namespace}.live.main.0.>"
    same = {"max_bytes", "compression", "subjects", "storage", "num_replicas"}
    assert {name: new[name] for name in same} == {name: old[name] for name in same}
    assert new["metadata"]["a2a-events-incarnation"] == old["metadata"]["a2a-events-incarnation"]
    assert set((await provision(connection, names, SETTINGS)).values()) == {"verified"}


async def test_an_upgrade_does_not_overrule_who_changed_what_another_version_made(
    connection: Connection, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(namespace)
    stream = names.snapshot_stream("main")
    with monkeypatch.context() as before:
        made_by_another_version(before, stream, max_msgs_per_subject=2)
        await provision(connection, names, SETTINGS)
    mine = await changed(connection, stream, max_msgs_per_subject=9)
    with pytest.raises(ProvisionError, match="max_msgs_per_subject 9 where 1"):
        await provision(connection, names, SETTINGS)
    assert await config_of(connection, stream) == mine


async def test_an_upgrade_that_the_server_refuses_says_which(
    connection: Connection, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(namespace)
    stream = names.dead_stream("main")
    with monkeypatch.context() as before:
        made_by_another_version(before, stream, storage="memory")
        await provision(connection, names, SETTINGS)
    with pytest.raises(ProvisionError, match=rf"stream {stream} cannot be brought to this version.*storage"):
        await provision(connection, names, SETTINGS)


def as_the_first_version_made(space: str) -> list[dict[str, Any]]:
    """Streams of the version that wrote no mark, with one shard: never to be changed with the code."""
    upper = space.upper()
    every = {"storage": "file", "retention": "limits", "num_replicas": 1, "allow_direct": True}
    one = {"max_msgs_per_subject": 1}
    log = f"{space}.log.main.0.>"
    return [
        {
            **every, "name": f"{upper}_LOG_main_0", "subjects": [log], "max_consumers": 20_000,
            "republish": {"src": log, "dest": f"{space}.live.main.0.>"},
            "metadata": {"a2a-events-incarnation": "0123456789ab", "a2a-events-keyed-shards": "1"},
        },
        {
            **every, **one, "name": f"{upper}_SNAP_main", "subjects": [f"{space}.snap.main.>"],
            "allow_rollup_hdrs": False, "persist_mode": "async",
        },
        {**every, **one, "name": f"{upper}_PUSH_main", "subjects": [f"{space}.push.main.>"]},
        {
            **every, **one, "name": f"{upper}_TIMER_main", "subjects": [f"{space}.timer.main.>"],
            "allow_msg_schedules": True, "allow_rollup_hdrs": True,
        },
        {**every, **one, "name": f"{upper}_DEAD_main", "subjects": [f"{space}.dead.main.>"], "max_age": 7776 * 10**15},
        {
            **every, "name": f"OBJ_{upper}_CONTENT_main", "discard": "new", "allow_rollup_hdrs": True,
            "subjects": [f"$O.{upper}_CONTENT_main.C.>", f"$O.{upper}_CONTENT_main.M.>"],
        },
        {**every, **one, "name": f"{upper}_AGENTS", "subjects": [f"{space}.agents.>"], "allow_msg_ttl": True},
    ]  # fmt: skip


async def test_what_the_first_version_made_is_brought_to_this_one(connection: Connection, namespace: str) -> None:
    names, settings = Names(namespace), StreamSettings("main", 1)
    for config in as_the_first_version_made(namespace):
        assert "error" not in await connection.api(f"STREAM.CREATE.{config['name']}", config)
    done = await provision(connection, names, settings)
    content = f"OBJ_{names.bucket('main')}"
    assert (done.pop(content), done.pop(names.registry_stream("main"))) == ("updated", "created")
    assert done.pop(names.notes_stream("main")) == "created"
    assert set(done.values()) == {"verified"}
    assert not (await config_of(connection, content)).get("allow_rollup_hdrs")
    assert set((await provision(connection, names, settings)).values()) == {"verified"}


async def test_a_stream_of_another_owner_is_verified_and_left_as_it_is(connection: Connection, namespace: str) -> None:
    """As NACK makes them: its resources have no word of what provisioning made."""
    names = Names(namespace)
    for config in streams.configurations(names, SETTINGS):
        assert "error" not in await connection.api(f"STREAM.CREATE.{config['name']}", config)
    assert set((await provision(connection, names, SETTINGS)).values()) == {"verified"}
    found = await config_of(connection, names.log_stream("main", 0))
    assert MADE_AS not in found["metadata"]
