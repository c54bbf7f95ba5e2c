"""Starts everything, asks the agent, and prints its answer as it comes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from a2a_events.client import Client
from a2a_events.services import logs
from a2a_events.testing import Deployment, nats_server

HERE = Path(__file__).parent


async def main() -> None:
    """What a client does."""
    async with (
        nats_server() as nats,
        Deployment(nats, agents="agent:poet", folder=HERE) as deployment,
        Client(deployment.gateways[0].url) as client,
    ):
        print("you   the log")
        print("poet  ", end="")
        state = None
        async with client.stream("the log") as updates:
            async for update in updates:
                state = update.state or state
                if update.artifact is not None:
                    print(*(part.text for part in update.artifact.artifact.parts), sep="", end="", flush=True)
        print(f"\n      {state.name if state else ''}")


logs.configure("error")
asyncio.run(main())
