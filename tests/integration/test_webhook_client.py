"""Posting to webhooks: what a name means is asked once for each connection, checked, and connected to as it is."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from a2a_events import limits
from a2a_events.runtime.webhook import NotTaken
from a2a_events.services import webhook_client
from a2a_events.services.webhook_client import WebhookClient
from a2a_events.testing import eventually, free_port
from tests.integration.receiver import Received, Receiver, hanging, receiver

HEADERS = {"Content-Type": "application/a2a+json", "X-A2A-Notification-Id": "t.1"}
NAME = "hooks.example.com"


class Names:
    """A name server: each question gets the next answer, the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@pytest.fixture
async def one() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


async def post(client: WebhookClient, url: str, body: bytes = b"{}") -> None:
    await client.post(url, HEADERS, body)


async def test_a_request_is_what_a_receiver_expects(one: Receiver) -> None:
    client = WebhookClient(allow_private=True)
    await client.post(f"http://127.0.0.1:{one.port}/a/b?c=d%20e#f", HEADERS, b'{"message":{}}')
    await client.close()
    assert one.received == [
        Received(
            "/a/b?c=d%20e",
            {
                "host": f"127.0.0.1:{one.port}",
                "user-agent": one.received[0].headers["user-agent"],
                "content-length": "14",
                "content-type": "application/a2a+json",
                "x-a2a-notification-id": "t.1",
            },
            b'{"message":{}}',
        )
    ]
    assert one.received[0].headers["user-agent"].startswith("a2a-events/")


async def test_connections_are_used_again(one: Receiver) -> None:
    client = WebhookClient(allow_private=True)
    for _ in range(5):
        await post(client, one.url)
    await client.close()
    assert (5, 1) == (len(one.received), one.connections)


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["10.0.0.1"]]
)
async def test_a_name_that_means_a_private_address_is_not_called(one: Receiver, addresses: list[str]) -> None:
    names = Names(addresses)
    client = WebhookClient(resolve=names)
    with pytest.raises(NotTaken, match="private address"):
        await post(client, f"http://{NAME}:{one.port}/")
    await client.close()
    assert [(NAME, one.port)] == names.asked
    assert 0 == one.connections


@pytest.mark.parametrize("address", ["169.254.169.254", "0.0.0.0", "64:ff9b::a9fe:a9fe", "fe80::1%lo"])  # noqa: S104
async def test_the_metadata_service_is_not_called_even_where_private_addresses_are(address: str) -> None:
    client = WebhookClient(allow_private=True, resolve=Names([address]))
    with pytest.raises(NotTaken, match="no host's"):
        await post(client, f"http://{NAME}/")
    await client.close()


async def test_localhost_as_the_system_resolves_it_is_refused_at_every_attempt(one: Receiver) -> None:
    """The check at connect time alone: a name that only the resolver knows to be this machine."""
    client = WebhookClient()
    for url in (f"http://localhost:{one.port}/", f"http://127.0.0.1:{one.port}/", f"http://127.1:{one.port}/"):
        with pytest.raises(NotTaken):
            await post(client, url)
    await client.close()
    assert 0 == one.connections


async def test_what_was_checked_is_what_is_connected_to(one: Receiver) -> None:
    """A name server that changes its mind between two questions is asked one."""
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    client = WebhookClient(allow_private=True, resolve=names)
    await post(client, f"http://{NAME}:{one.port}/")
    assert [f"{NAME}:{one.port}"] == [received.headers["host"] for received in one.received]
    assert 1 == len(names.asked)
    await client.close()
    again = WebhookClient(allow_private=True, resolve=names)
    with pytest.raises(NotTaken):
        await post(again, f"http://{NAME}:{one.port}/")
    await again.close()
    assert (2, 1) == (len(names.asked), one.connections)


async def test_the_next_address_is_tried_when_one_does_not_answer(one: Receiver) -> None:
    client = WebhookClient(allow_private=True, resolve=Names(["127.0.0.2", "::1", "127.0.0.1"]))
    await post(client, f"http://{NAME}:{one.port}/")
    await client.close()
    assert 1 == len(one.accepted)


@pytest.mark.parametrize("status", [300, 301, 302, 307, 400, 401, 404, 410, 429, 500, 503])
async def test_any_answer_but_success_is_none(one: Receiver, status: int) -> None:
    async def answer(_: Received) -> int:
        return status

    one.answer = answer
    one.location = one.url
    client = WebhookClient(allow_private=True)
    with pytest.raises(NotTaken, match=f"it answered {status}"):
        await asyncio.wait_for(post(client, one.url), 10)
    await client.close()
    assert 1 == len(one.received)


async def test_nobody_there_is_said_so_without_internals() -> None:
    client = WebhookClient(allow_private=True)
    with pytest.raises(NotTaken, match=r"^it could not be reached \(ConnectError\)$"):
        await post(client, f"http://127.0.0.1:{free_port()}/")
    await client.close()

    async def unknown(_host: str, _port: int) -> list[str]:
        raise OSError("internal resolver 10.0.0.53 says no")

    client = WebhookClient(resolve=unknown)
    with pytest.raises(NotTaken, match=r"^it could not be reached \(ConnectError\)$"):
        await post(client, f"http://{NAME}/")
    await client.close()


async def test_one_that_hangs_is_left_after_the_timeout(one: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WEBHOOK_TIMEOUT_SECONDS", 0.2)
    one.answer = hanging
    client = WebhookClient(allow_private=True)
    with pytest.raises(NotTaken, match="did not answer within"):
        await post(client, one.url)
    await client.close()
    await eventually(lambda: not one.open or one.connections == 1)


async def test_an_endless_answer_costs_its_connection_and_nothing_else() -> None:
    connections = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    client = WebhookClient(allow_private=True)
    for _ in range(2):
        await post(client, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    await client.close()
    server.close()
    await server.wait_closed()
    assert 2 == connections


def certificate(folder: Path, name: str) -> Path:
    """A certificate for a name that nobody but its owner vouches for, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


async def test_a_certificate_is_checked_against_the_name_and_not_the_address(tmp_path: Path) -> None:
    path = certificate(tmp_path, NAME)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    trusting = ssl.create_default_context(cafile=str(path))
    async with receiver(tls=server) as one:
        client = WebhookClient(allow_private=True, resolve=Names(["127.0.0.1"]), tls=trusting)
        await post(client, f"https://{NAME}:{one.port}/")
        with pytest.raises(NotTaken):
            await post(client, f"https://other.example.com:{one.port}/")
        await client.close()
        strict = WebhookClient(allow_private=True, resolve=Names(["127.0.0.1"]))
        with pytest.raises(NotTaken):
            await post(strict, f"https://{NAME}:{one.port}/")
        await strict.close()
        assert 1 == len(one.accepted)


async def test_connections_that_nobody_uses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_client, "IDLE_ORIGINS", 2)
    client = WebhookClient(allow_private=True)
    async with AsyncExitStack() as stack:
        ends = [await stack.enter_async_context(receiver()) for _ in range(5)]
        for _ in range(2):
            for end in ends:
                await post(client, end.url)
        assert list(client._origins) == [f"http://127.0.0.1:{end.port}" for end in ends[-2:]]
        await eventually(lambda: [end.connected for end in ends] == [0, 0, 0, 1, 1])
        await client.close()
        await eventually(lambda: not any(end.connected for end in ends))


RESETS = 300
"""Enough for some connections to be reset before they are looked at: under uvloop anyio has no words for that."""


def _reset_all(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def test_a_webhook_whose_connections_are_reset_at_once_did_not_take_the_update() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not there for this system")
    listener = socket.create_server(("127.0.0.1", 0))
    server = threading.Thread(target=_reset_all, args=(listener,), daemon=True)
    server.start()

    async def ask() -> None:
        client = WebhookClient(allow_private=True)
        for _ in range(RESETS):
            with pytest.raises(NotTaken, match="could not be reached"):
                await post(client, f"http://127.0.0.1:{listener.getsockname()[1]}/")
        await client.close()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(ask())
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        server.join(10)
