"""A deployment of real processes that serves the agents of ``attackers``, and what can be seen of its processes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from a2a.client.transports.http_helpers import parse_sse_stream
from msgspec import Struct

from a2a_events import limits
from a2a_events.log.jetstream import Connection
from a2a_events.testing import Deployment
from a2a_events.testing.deployment import ServiceProcess
from tests.integration.http import client, message, rpc

AGENTS = "tests.hostile.attackers:attacker"
ROOT = Path(__file__).parents[2]
_RAW = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Stored(Struct, frozen=True):
    """One message of a stream."""

    subject: str
    head: str
    """``NATS/1.0`` and its headers, as on the wire."""
    data: bytes

    @property
    def headers(self) -> set[str]:
        """Names of its headers."""
        return {line.partition(":")[0] for line in self.head.split("\r\n")[1:] if line}


class Site:
    """One gateway, worker and notifier, and a client of the gateway."""

    def __init__(self, deployment: Deployment, http: httpx.AsyncClient) -> None:
        self.deployment = deployment
        self.http = http

    @property
    def gateway(self) -> ServiceProcess:
        return self.deployment.gateways[0]

    @property
    def worker(self) -> ServiceProcess:
        return self.deployment.workers[0]

    @property
    def processes(self) -> list[ServiceProcess]:
        return [*self.deployment.gateways, *self.deployment.workers, *self.deployment.notifiers]

    async def attack(self, attack: str, **told: Any) -> dict[str, Any]:
        """A task in which the agent attacks, when it has ended."""
        answer = await self.http.post("/message:send", json=message({"attack": attack, **told}))
        task: dict[str, Any] = answer.json()["task"]
        return task

    async def serves(self) -> None:
        """The next honest task is served."""
        task = await self.attack("behave")
        assert state(task) == "COMPLETED", task

    async def whole(self) -> None:
        """Nobody has died, lost NATS or been replaced, and the next honest task is served."""
        await self.serves()
        for process in self.processes:
            assert process.running, process.output[-2000:]
            assert await self.metric(process, "a2a_nats_reconnects_total") == 0
            assert '"process is replaced"' not in process.output

    async def metric(self, process: ServiceProcess, name: str) -> float:
        """The sum of a metric's samples."""
        async with httpx.AsyncClient() as http:
            shown = (await http.get(f"{process.admin_url}/metrics")).text
        samples = [float(line.rsplit(" ", 1)[1]) for line in shown.splitlines() if re.match(rf"{name}[ {{]", line)]
        assert samples, f"{process.name} has no {name}"
        return sum(samples)

    async def stored(self, task_id: str) -> list[Stored]:
        """Every message of a task as the server has it."""
        connection = Connection([self.deployment.nats], name="hostile")
        await connection.open()
        found: list[Stored] = []
        try:
            for shard in range(self.deployment.settings.shards):
                stream = f"{self.deployment.namespace.upper()}_LOG_main_{shard}"
                state = (await connection.api(f"STREAM.INFO.{stream}"))["state"]
                for sequence in range(state["first_seq"], state["last_seq"] + 1):
                    answer = await connection.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence})
                    one = answer.get("message", {"subject": ""})
                    if task_id.rpartition("-")[2] in one["subject"]:
                        head = base64.b64decode(one.get("hdrs", "")).decode()
                        found.append(Stored(one["subject"], head, base64.b64decode(one["data"])))
        finally:
            await connection.close()
        return found


@asynccontextmanager
async def serving(nats_url: str, **settings: str) -> AsyncIterator[Site]:
    """A site, while this is entered."""
    given = {"push_allow_private": "true", "debug_api": "true", "log_level": "debug", **settings}
    async with (
        Deployment(nats_url, agents=AGENTS, notifiers=1, admin=True, settings=given, folder=ROOT) as deployment,
        client(deployment.gateways[0].url) as http,
    ):
        yield Site(deployment, http)


def state(task: dict[str, Any]) -> str:
    return str(task["status"]["state"]).removeprefix("TASK_STATE_")


def why(task: dict[str, Any]) -> str:
    """What its last status says."""
    return " ".join(part.get("text", "") for part in task["status"].get("message", {}).get("parts", []))


async def streamed(site: Site, binding: str, told: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Name and content of each event of a stream, as the official SDK's parser of event streams has them."""
    path, body = (
        ("/", rpc("SendStreamingMessage", message(told)))
        if binding == "JSONRPC"
        else (
            "/message:stream",
            message(told),
        )
    )
    async with site.http.stream("POST", path, json=body) as response:
        assert response.status_code == 200, await response.aread()
        found = [(name, json.loads(data)) async for name, data in parse_sse_stream(response)]
    return [(name, data["result"] if binding == "JSONRPC" else data) for name, data in found]


def lines_of(process: ServiceProcess, since: int = 0) -> list[dict[str, Any]]:
    """What a process has logged, once each line is known to be one object of bounded, harmless text."""
    found: list[dict[str, Any]] = []
    for line in process.output[since:].split("\n")[:-1]:  # what is behind the last is being written
        assert not _RAW.search(line), line[:2000]
        assert len(line) <= limits.LOG_LINE_CHARACTERS, len(line)
        document = json.loads(line)
        assert isinstance(document, dict), line[:2000]
        assert {"event", "level", "timestamp"} <= set(document) or document.get("event") == "audit", line[:2000]
        found.append(document)
    return found


def resident_bytes(process: ServiceProcess) -> int:
    """What a process holds of memory now."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024
