"""An async client for any A2A agent, whose streams outlive the servers that carry them.

::

    async with Client(["https://a.example", "https://b.example"]) as client:
        async with client.stream("Write a poem") as updates:
            async for update in updates:
                task = accumulate(task, update.response)

A stream that breaks goes on by itself, at another gateway if need be. Where the server gives cursors (``id:`` of its
frames, or the metadata of the replay extension, as this project's does), nothing is lost and nothing comes twice;
elsewhere a Task marked ``resynchronised`` says where the story was picked up again.

The agent's card says how it is spoken to: A2A 1.0 over JSON-RPC, HTTP+JSON or gRPC, or 0.3 over the first two. The
client's side of it, names and objects, is always that of 1.0.

Words: an *update* is one thing that the agent said; a *cursor* is where a reader stands after it, as text of the
server's that can be kept for days; a *base* is a URL under which a gateway shows the agent's card.
"""

from __future__ import annotations

from a2a_events.client.accumulate import accumulate
from a2a_events.client.card_keys import CardKeys
from a2a_events.client.client import Client
from a2a_events.client.credentials import Credentials, api_key, bearer
from a2a_events.client.errors import (
    BadAnswer,
    CardNotTrusted,
    ClientError,
    ConnectionFailed,
    NoAnswer,
    StreamInterrupted,
)
from a2a_events.client.receiver import Receiver, ReceiverApp
from a2a_events.client.replay import REPLAY_EXTENSION
from a2a_events.client.retry import Retry
from a2a_events.client.stream import Update, Updates

__all__ = [
    "REPLAY_EXTENSION",
    "BadAnswer",
    "CardKeys",
    "CardNotTrusted",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "Credentials",
    "NoAnswer",
    "Receiver",
    "ReceiverApp",
    "Retry",
    "StreamInterrupted",
    "Update",
    "Updates",
    "accumulate",
    "api_key",
    "bearer",
]
