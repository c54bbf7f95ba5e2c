"""Starts everything, kills the worker in the middle of the job, and watches another one go on."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from a2a_events import Message, Part, Role
from a2a_events.client import Client
from a2a_events.services import logs
from a2a_events.testing import Deployment, nats_server

HERE = Path(__file__).parent


async def main() -> None:
    """What a client does."""
    # So soon is a worker given up that is not heard of; the default of 30 seconds is for less hasty deployments.
    settings = {"ack_wait_seconds": "2"}
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger"
        async with (
            nats_server() as nats,
            Deployment(nats, agents="agent:job", folder=HERE, settings=settings) as deployment,
            Client(deployment.gateways[0].url) as client,
        ):
            begin = Message(message_id="begin", role=Role.USER, parts=(Part(data={"ledger": str(ledger)}),))
            state, count = None, 0
            async with client.stream(begin) as updates:
                async for update in updates:
                    state = update.state or state
                    for part in update.artifact.artifact.parts if update.artifact else ():
                        count += 1
                        print(f"job     {part.text}")
                    if count == 2 and deployment.workers[0].running:  # noqa: PLR2004 -- in the middle
                        deployment.workers[0].kill()
                        print("------  kill -9: the worker is gone; another one starts")
                        await deployment.add_worker()
            print(f"        {state.name if state else ''}")
        print(f"ledger  {' '.join(ledger.read_text().split())}")


logs.configure("error")
asyncio.run(main())
