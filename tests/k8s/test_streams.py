"""Streams and consumers in manifests are those of the code: by their words, and by what a real server makes of them."""

from __future__ import annotations

import copy
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from a2a_events.log.jetstream import Connection, Names, StreamSettings, provision
from a2a_events.log.jetstream.streams import (
    INCARNATION,
    KEYED_SHARDS,
    configurations,
    ensure_notifier_consumer,
    ensure_timer_consumer,
    ensure_worker_consumer,
)
from a2a_events.services.connect import names, stream_settings
from a2a_events.services.nats_server import NatsServer
from a2a_events.services.worker import load_agents
from tests.k8s.manifests import Manifest, loaded, of_kind, render, settings_of

UNITS = {"h": 3600, "m": 60, "s": 1}
WORDS = {  # of NACK's resources -> of JetStream's API
    "ackPolicy": "ack_policy", "ackWait": "ack_wait", "allowDirect": "allow_direct",
    "allowMsgSchedules": "allow_msg_schedules", "allowMsgTtl": "allow_msg_ttl", "allowRollup": "allow_rollup_hdrs",
    "deliverPolicy": "deliver_policy", "durableName": "durable_name", "filterSubject": "filter_subject",
    "headersOnly": "headers_only", "maxAckPending": "max_ack_pending", "maxAge": "max_age",
    "maxConsumers": "max_consumers", "maxDeliver": "max_deliver", "maxMsgsPerSubject": "max_msgs_per_subject",
    "maxWaiting": "max_waiting", "replayPolicy": "replay_policy", "replicas": "num_replicas",
    "streamName": "stream_name",
}  # fmt: skip
OURS_ALONE = {"preventDelete"}
"""Settings of the resource, of which JetStream knows nothing."""


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    server = NatsServer(sync="2m")  # of its own: the resources name the streams, no test's namespace does
    await server.start()
    made = Connection([server.url], name="test-nack")
    await made.open()
    yield made
    await made.close()
    await server.stop()
    server.clean()


def test_the_resources_of_streams_are_the_streams_of_the_code() -> None:
    manifests = render("nack")
    settings = loaded(settings_of(manifests))
    wanted = {config["name"]: config for config in configurations(names(settings), stream_settings(settings))}
    found = {config["name"]: config for config in map(as_config, of_kind(manifests, "Stream"))}
    for config in (*wanted.values(), *found.values()):
        for default in ("allow_rollup_hdrs", "allow_msg_ttl", "allow_msg_schedules"):
            config.setdefault(default, False)
    for config in found.values():
        if INCARNATION in config.get("metadata", {}):  # each deployment has its own
            assert re.fullmatch("[0-9a-f]{12}", config["metadata"][INCARNATION])
    for config in (*wanted.values(), *found.values()):
        config.get("metadata", {}).pop(INCARNATION, None)
    assert found == wanted


def test_only_logs_have_an_incarnation_and_the_first_the_number_of_shards() -> None:
    for resource in of_kind(render("nack"), "Stream"):
        metadata = set(resource["spec"].get("metadata", {}))
        assert metadata == ({INCARNATION, KEYED_SHARDS} if resource["spec"]["name"].startswith("A2A_LOG_") else set())


async def test_the_provisioner_and_workers_accept_what_the_resources_make(connection: Connection) -> None:
    manifests = render("nack")
    settings = loaded(settings_of(manifests))
    for resource in of_kind(manifests, "Stream"):
        config = {**as_config(resource), "num_replicas": 1}  # one server is at hand
        await asked(connection, f"STREAM.CREATE.{config['name']}", config)
    for resource in of_kind(manifests, "Consumer"):
        config = as_config(resource)
        stream = config.pop("stream_name")
        verb = f"CONSUMER.CREATE.{stream}.{config['durable_name']}.{config['filter_subject']}"
        await asked(connection, verb, {"stream_name": stream, "config": {**config, "name": config["durable_name"]}})

    deployment = names(settings)
    one = StreamSettings(settings.log, settings.shards, 1, settings.ack_wait_seconds)
    assert set((await provision(connection, deployment, one)).values()) == {"verified"}
    before = await consumers(connection)
    await ensure_all(connection, deployment, one, settings.agent)
    assert await consumers(connection) == before, "a service changed a consumer that a resource owns"


async def test_the_resources_have_every_consumer_that_services_make(connection: Connection) -> None:
    manifests = render("nack")
    settings = loaded(settings_of(manifests))
    one = StreamSettings(settings.log, settings.shards, 1, settings.ack_wait_seconds)
    await provision(connection, names(settings), one)
    await ensure_all(connection, names(settings), one, settings.agent)
    made = {(consumer["stream_name"], consumer["name"]) for consumer in await consumers(connection)}
    resources = of_kind(manifests, "Consumer")
    assert {(one["spec"]["streamName"], one["spec"]["durableName"]) for one in resources} == made


@pytest.mark.parametrize("target", ["production", "two-region/a", "two-region/b"])
def test_workers_are_scaled_by_the_consumers_that_they_share(target: str) -> None:
    manifests = render(target)
    settings = loaded(settings_of(manifests))
    (scaled,) = of_kind(manifests, "ScaledObject")
    deployment = names(settings)
    asked_for = {(one["metadata"]["stream"], one["metadata"]["consumer"]) for one in scaled["spec"]["triggers"]}
    assert asked_for == {
        (deployment.log_stream(settings.log, shard), deployment.worker_consumer(agent.name))
        for shard in range(settings.shards)
        for agent in load_agents(settings.agent)
    }
    for trigger in scaled["spec"]["triggers"]:
        # Running turns count, so a threshold over what a worker runs would never be reached.
        assert int(trigger["metadata"]["lagThreshold"]) < settings.turns
        assert trigger["metadata"]["account"] == "A2A"
        assert trigger["metadata"]["natsServerMonitoringEndpoint"].startswith("nats-headless.a2a-events.svc.")
    assert scaled["spec"]["minReplicaCount"] >= 1, "a worker makes its agent's consumer"


def as_config(resource: Manifest) -> dict[str, Any]:
    """What NACK asks JetStream for."""
    config: dict[str, Any] = {}
    for key, value in resource["spec"].items():
        if key in OURS_ALONE:
            continue
        if key == "republish":
            config["republish"] = {"src": value["source"], "dest": value["destination"]}
        else:
            config[WORDS.get(str(key), str(key))] = (
                nanoseconds(value) if key in {"maxAge", "ackWait"} else copy.copy(value)
            )
    return config


def nanoseconds(duration: str) -> int:
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([hms])", duration)) * 1_000_000_000


async def ensure_all(connection: Connection, deployment: Names, settings: StreamSettings, agents: str) -> None:
    for shard in range(settings.shards):
        await ensure_notifier_consumer(connection, deployment, settings, shard)
        for agent in load_agents(agents):
            await ensure_worker_consumer(connection, deployment, settings, shard, agent.name)
    for agent in load_agents(agents):
        await ensure_timer_consumer(connection, deployment, settings, agent.name)


async def asked(connection: Connection, verb: str, payload: object = None) -> dict[str, Any]:
    answer: dict[str, Any] = await connection.api(verb, payload)
    assert "error" not in answer, answer
    return answer


async def stream_names(connection: Connection) -> list[str]:
    return list((await asked(connection, "STREAM.NAMES"))["streams"] or [])


async def consumers(connection: Connection) -> list[dict[str, Any]]:
    """Of all streams, without what changes by itself."""
    found: list[dict[str, Any]] = []
    for stream in sorted(await stream_names(connection)):
        listed = (await asked(connection, f"CONSUMER.LIST.{stream}"))["consumers"] or []
        found += [{key: one[key] for key in ("stream_name", "name", "config", "created")} for one in listed]
    return sorted(found, key=lambda one: (one["stream_name"], one["name"]))
