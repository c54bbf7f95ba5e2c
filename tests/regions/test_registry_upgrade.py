"""The agent registry of a version whose subjects did not name the log is taken over by provisioning."""

from __future__ import annotations

import msgspec
import pytest

from a2a_events.log.jetstream import Connection, JetStreamLog, Names, StreamSettings, provision
from a2a_events.log.port import AgentEntry

pytestmark = pytest.mark.integration


async def test_agents_of_the_old_registry_are_known_before_their_workers_are_replaced(
    nats_url: str, namespace: str
) -> None:
    names, settings = Names(namespace), StreamSettings("main", 1)
    connection = Connection([nats_url], name="upgrade")
    await connection.open()
    try:
        old = {"name": names.old_registry_stream, "subjects": [f"{namespace}.agents.>"], "max_msgs_per_subject": 1}
        made = await connection.api(
            f"STREAM.CREATE.{names.old_registry_stream}", {**old, "allow_direct": True, "allow_msg_ttl": True}
        )
        assert "error" not in made
        entry = AgentEntry(name="answers", card=b"{}")
        await connection.request(f"{namespace}.agents.answers.card", msgspec.json.encode(entry))
        await connection.request(f"{namespace}.agents.answers.alive.worker-1", b"")

        await provision(connection, names, settings)
        log = await JetStreamLog.open(connection, names, settings)
        assert await log.agents() == {"answers": entry}
        assert not await log.attended()  # only its worker says that it lives

        newer = AgentEntry(name="answers", card=b'{"newer":true}')
        await log.announce(newer, "worker-2")
        await provision(connection, names, settings)  # again: what is newer stays
        assert await log.agents() == {"answers": newer}
    finally:
        await connection.close()
