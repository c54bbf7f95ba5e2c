"""What users with the permissions of their role can and cannot see of another deployment in the same account.

Role permissions are for what a service may do. They keep deployments with other namespaces apart in their streams, but
not within a stream, and not what is on its way: docs/security/tenants.md says so, and these tests show it. Where
nothing may be seen, take an account for each (``test_account_isolation``).
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import Struct

from a2a_events.cli.nats_accounts import _public
from a2a_events.errors import Forbidden, LogError
from a2a_events.log.jetstream import Connection, JetStreamLog, Names, StreamSettings, provision
from a2a_events.log.jetstream.accounts import Account, configuration
from a2a_events.log.jetstream.permissions import ROLES, definitions, permissions
from a2a_events.services.connect import connection
from a2a_events.services.nats_server import NatsServer
from a2a_events.settings import Settings
from a2a_events.testing import eventually
from tests.contract.logs import new_task, offered

pytestmark = pytest.mark.integration

ONE, OTHER = "one", "other"
STREAMS = StreamSettings("main", 1, 1, 15.0)
FOREIGN = Names(OTHER).log_stream("main", 0)
HEARD = (OTHER, "gateway")
API = "$JS.API"
WAIT_SECONDS = 2.0


class Neighbours(Struct):
    """Two deployments in one account, and what the other one has stored."""

    server: NatsServer
    keys: Path
    payload: bytes
    subject: str

    def settings(self, namespace: str, role: str) -> Settings:
        credentials = str(self.keys / namespace / f"{role}.nk")
        return Settings(nats=self.server.url, nats_credentials=credentials, namespace=namespace, shards=1)


@pytest.fixture
async def neighbours(tmp_path: Path) -> AsyncIterator[Neighbours]:
    lines: list[str] = []
    users: list[Account] = []
    for namespace in (ONE, OTHER):
        made = {role: permissions(role, Names(namespace), shards=1) for role in ROLES}
        lines += definitions(made, namespace)
        keys = {role: _public(tmp_path / namespace / f"{role}.nk") for role in ROLES}
        users += [Account(namespace, keys)]
    both = [configuration([account], frozenset(ROLES), account.name) for account in users]
    signed = [line for block in both for line in block if "nkey:" in line]
    more = [*lines, "accounts { SHARED { jetstream: enabled, users: [", *signed, "] } }"]
    server = NatsServer(tmp_path / "nats", sync="2m", more="\n".join(more))
    await server.start()
    try:
        found = Neighbours(server, tmp_path, b"", "")
        for namespace in (ONE, OTHER):
            async with connection(found.settings(namespace, "provisioner"), "provisioner") as made_by:
                await provision(made_by, Names(namespace), STREAMS, agents=["agent"], notifier=True)
        async with connection(found.settings(OTHER, "gateway"), "gateway") as gateway:
            log, draft = await JetStreamLog.open(gateway, Names(OTHER), STREAMS), offered(0)
            task = new_task(log)
            await log.try_append(task, draft, 0)
            found.payload, found.subject = draft.payload, Names(OTHER).task("log", task, "out")
            await log.close()
        yield found
    finally:
        await server.stop()
        server.clean()


CROSSINGS = {
    "MSG.GET": (f"{API}.STREAM.MSG.GET.{FOREIGN}", {"seq": 1}),
    "DIRECT.GET": (f"{API}.DIRECT.GET.{FOREIGN}", {"seq": 1}),
    "INFO": (f"{API}.STREAM.INFO.{FOREIGN}", None),
    "NAMES": (f"{API}.STREAM.NAMES", None),
    "LIST": (f"{API}.STREAM.LIST", None),
    "NEXT": (f"{API}.CONSUMER.MSG.NEXT.{FOREIGN}.worker-agent", {"batch": 1, "no_wait": True}),
    "CREATE": (
        f"{API}.CONSUMER.CREATE.{FOREIGN}.spy.{OTHER}.log.main.0.>",
        {"stream_name": FOREIGN, "config": {"name": "spy", "filter_subject": f"{OTHER}.log.main.0.>"}},
    ),
    "mirror": (f"{API}.STREAM.CREATE.COPY", {"name": "COPY", "mirror": {"name": FOREIGN}}),
    "purge": (f"{API}.STREAM.PURGE.{FOREIGN}", None),
    "append": (f"{OTHER}.log.main.0.agent.-.task.in", None),
}


@pytest.mark.parametrize("role", ROLES)
async def test_a_stream_of_another_namespace_is_out_of_reach(neighbours: Neighbours, role: str) -> None:
    async with connection(neighbours.settings(ONE, role), role) as made:
        for subject, body in CROSSINGS.values():
            with pytest.raises(Forbidden):
                await made.request(subject, json.dumps(body).encode(), timeout=WAIT_SECONDS)


async def test_a_provisioner_can_copy_what_it_may_not_read(neighbours: Neighbours) -> None:
    """The one role that configures streams names the origin in the body, where no permission looks."""
    mine = Names(ONE).notes_stream("main")
    async with connection(neighbours.settings(ONE, "provisioner"), "provisioner") as made:
        info = await made.api(f"STREAM.INFO.{mine}")
        body = {**info["config"], "sources": [{"name": FOREIGN}]}
        assert "error" not in await made.api(f"STREAM.UPDATE.{mine}", body)

    async with connection(neighbours.settings(ONE, "worker"), "worker") as reading:
        await eventually(lambda: _holds(reading, mine, neighbours.payload), what="the copy")


async def test_within_a_stream_every_reader_reads_all_tenants(neighbours: Neighbours) -> None:
    """The subject is in the body of the request: no permission can be about one tenant."""
    for role in ("gateway", "worker", "notifier", "timeline", "sweeper", "retention", "operator"):
        async with connection(neighbours.settings(OTHER, role), role) as made:
            assert await _holds(made, FOREIGN, neighbours.payload), role


@pytest.mark.parametrize(
    ("namespace", "role"), [(space, role) for space in (ONE, OTHER) for role in ROLES if (space, role) != HEARD]
)
async def test_answers_to_one_role_are_heard_by_no_other(neighbours: Neighbours, namespace: str, role: str) -> None:
    assert await _overheard(neighbours, namespace, role) == []


async def test_answers_to_one_role_are_heard_by_all_who_have_it(neighbours: Neighbours) -> None:
    assert any(base64.b64encode(neighbours.payload) in each for each in await _overheard(neighbours, *HEARD))


async def _overheard(neighbours: Neighbours, namespace: str, role: str) -> list[bytes]:
    """What one user hears of an answer to another one, the gateway of HEARD."""
    heard: list[bytes] = []
    places = ("_INBOX.>", "_INBOX.*.>", f"{Names(OTHER).inbox('gateway')}.>")
    own = Names(namespace).log_stream("main", 0)
    async with (
        connection(neighbours.settings(namespace, role), role) as spy,
        connection(neighbours.settings(*HEARD), "gateway") as gateway,
    ):
        for place in places:
            await spy.subscribe(place, lambda _s, _r, _h, payload: heard.append(bytes(payload)))
        await spy.api(f"STREAM.INFO.{own}")  # it listens by now
        heard.clear()
        assert await _holds(gateway, FOREIGN, neighbours.payload)
        asked = await spy.api(f"STREAM.INFO.{own}")  # whatever it hears of the other answer has come before this one
    return [each for each in heard if json.loads(each) != asked]


async def _holds(made: Connection, stream: str, payload: bytes) -> bool:
    try:
        answer = await made.api(f"STREAM.MSG.GET.{stream}", {"seq": 1}, timeout=WAIT_SECONDS)
    except LogError:
        return False
    return "message" in answer and base64.b64decode(answer["message"].get("data", "")) == payload
