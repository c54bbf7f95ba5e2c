"""A link does to bytes what it was told, and nothing else: otherwise a run would prove something about the link."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from a2a_events.testing import eventually
from faults.proxy import Link, Way

pytestmark = pytest.mark.timeout(20)

WHOLE_BYTES = 24 * 1024 * 1024
"""More than all sockets on the way hold together."""

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[], Awaitable[Ends]]


class Server:
    """Echoes what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self.accepted = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            while data := await reader.read(65536):
                self.heard += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the link was reset
        finally:
            writer.close()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def link(server: Server) -> AsyncIterator[Link]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    made = Link("test", listening.sockets[0].getsockname()[1])
    await made.open()
    yield made
    await made.close()
    listening.close()


@pytest.fixture
async def dial(link: Link) -> AsyncIterator[Dial]:
    async with AsyncExitStack() as exits:

        async def dialed() -> Ends:
            ends = await asyncio.open_connection("127.0.0.1", link.port)
            exits.callback(ends[1].close)
            return ends

        yield dialed


async def test_what_is_held_arrives_late_and_whole(link: Link, server: Server, dial: Dial) -> None:
    reader, writer = await dial()
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    link.hold()
    writer.write(b"two")
    await eventually(lambda: link.injury.held_bytes == 3)
    assert server.heard == b"one"
    link.heal()
    assert await reader.readexactly(3) == b"two"


async def test_an_answer_that_is_lost_was_for_a_request_that_arrived(link: Link, server: Server, dial: Dial) -> None:
    reader, writer = await dial()
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    link.lose(Way.DOWN)
    writer.write(b"two")
    await eventually(lambda: server.heard == b"onetwo")
    await eventually(lambda: link.injury.lost_bytes == 3)
    link.heal()
    with pytest.raises(ConnectionResetError):  # a connection that goes on after it lost something would be no TCP
        assert await reader.read(3)
    again, writer = await dial()
    writer.write(b"three")
    assert await again.readexactly(5) == b"three"


async def test_a_request_that_is_lost_never_arrives(link: Link, server: Server, dial: Dial) -> None:
    reader, writer = await dial()
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    link.lose(Way.UP)
    writer.write(b"two")
    await eventually(lambda: link.injury.lost_bytes == 3)
    link.heal()
    with pytest.raises(ConnectionResetError):
        assert await reader.read(3)
    assert server.heard == b"one"


async def test_a_link_that_is_cut_ends_what_there_is_and_refuses_more(link: Link, server: Server, dial: Dial) -> None:
    reader, writer = await dial()
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    link.cut()
    with pytest.raises(ConnectionResetError):
        assert await reader.read(3)
    refused, _ = await dial()
    with pytest.raises(ConnectionResetError):
        assert await refused.read(3)
    assert (link.injury.resets, link.injury.refused, server.accepted) == (1, 1, 1)


async def test_nobody_is_told_of_a_connection_made_while_the_link_is_held(
    link: Link, server: Server, dial: Dial
) -> None:
    link.hold()
    reader, writer = await dial()
    writer.write(b"one")
    await eventually(lambda: link.injury.held_bytes == 3)
    assert server.accepted == 0
    link.heal()
    assert await reader.readexactly(3) == b"one"


async def test_slow_links_keep_the_order(link: Link, dial: Dial) -> None:
    reader, writer = await dial()
    link.delay(0.05)
    for number in range(50):
        writer.write(b"%06d" % number)
        await asyncio.sleep(0)
    link.dribble(20)
    assert await reader.readexactly(300) == b"".join(b"%06d" % number for number in range(50))
    assert link.injury.late_bytes > 0


async def test_a_reader_that_does_not_read_is_felt_by_the_sender(link: Link, server: Server, dial: Dial) -> None:
    _, writer = await dial()
    writer.write(bytes(WHOLE_BYTES))
    before = -1
    while before < len(server.heard):
        before = len(server.heard)
        await asyncio.sleep(0.3)
    assert 0 < before
    assert link.waiting_bytes < 2 * 1024 * 1024
