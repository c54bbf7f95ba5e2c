"""The addresses that agent cards show, out of the settings."""

from __future__ import annotations

import pytest

from a2a_events.cli.source import command
from a2a_events.settings import Settings


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        (Settings(), ""),
        (Settings(public_grpc="grpc.example:443"), ""),
        (Settings(grpc_port=9000), "127.0.0.1:9000"),
        (Settings(grpc_port=9000, host="0.0.0.0"), "127.0.0.1:9000"),  # noqa: S104 -- a value, not bound
        (Settings(grpc_port=9000, host="agents.internal"), "agents.internal:9000"),
        (Settings(grpc_port=9000, host="::1"), "[::1]:9000"),
        (Settings(grpc_port=9000, public_url="https://agent.example/a2a"), "agent.example:9000"),
        (Settings(grpc_port=9000, public_url="http://[::1]:8000"), "[::1]:9000"),
        (
            Settings(grpc_port=9000, public_url="https://agent.example", public_grpc="grpc.example:443"),
            "grpc.example:443",
        ),
    ],
)
def test_grpc_clients_are_sent_to_the_public_host_unless_they_have_one_of_their_own(
    settings: Settings, address: str
) -> None:
    assert address == settings.grpc_address


@pytest.mark.parametrize(
    ("nats", "shown"),
    [
        ("nats://broker:4222", "nats://broker:4222"),
        ("nats://user:secret@broker:4222", "nats://***@broker:4222"),
        ("nats://secret@broker:4222, tls://u:se@cret@[::1]:4222", "nats://***@broker:4222,tls://***@[::1]:4222"),
        ("user:secret@broker", "***@broker"),
    ],
)
def test_servers_are_shown_without_what_signs_in_there(nats: str, shown: str) -> None:
    assert shown == Settings(nats=nats).shown_nats
    assert "secret" not in command(Settings(nats=nats), "timeline", "t1-x")
