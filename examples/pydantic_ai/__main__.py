"""Starts everything, talks to the agent, replaces its worker, and goes on with the conversation."""

from __future__ import annotations

import asyncio
from pathlib import Path

from a2a_events.client import Client
from a2a_events.services import logs
from a2a_events.testing import Deployment, nats_server

HERE = Path(__file__).parent


async def ask(client: Client, text: str) -> None:
    """Ask in one conversation, and print the answer as it is written; the whole of it comes last."""
    print(f"you        {text}")
    print("companion  ", end="")
    state = None
    async with client.stream(text, context_id="our talk") as updates:
        async for update in updates:
            state = update.state or state
            if update.artifact is not None and not update.artifact.last_chunk:
                print(*(part.text for part in update.artifact.artifact.parts), sep="", end="", flush=True)
    print(f"\n           {state.name if state else ''}")


async def main() -> None:
    """What a client does."""
    async with (
        nats_server() as nats,
        Deployment(nats, agents="agent:companion", folder=HERE) as deployment,
        Client(deployment.gateways[0].url) as client,
    ):
        await ask(client, "My name is Ada.")
        deployment.workers[0].kill()
        await deployment.add_worker()
        print("---------  its worker was killed; this is another one:")
        await ask(client, "What is my name?")


logs.configure("error")
asyncio.run(main())
