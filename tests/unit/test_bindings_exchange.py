"""One HTTP exchange over ASGI: what a gateway takes in at once, and how it writes what is large."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from a2a_events import limits
from a2a_events.bindings.exchange import ClientGone, Exchange, Intake
from a2a_events.errors import PayloadTooLargeError, UnavailableError


class Wire:
    """An ASGI server's side of one request."""

    def __init__(self, *pieces: bytes, headers: dict[bytes, bytes] | None = None, whole: bool = True) -> None:
        self._pieces = list(pieces)
        self._whole = whole
        self.scope: Any = {"type": "http", "method": "POST", "headers": list((headers or {}).items())}
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> Any:
        if not self._pieces:
            return {"type": "http.disconnect"}
        piece = self._pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or not self._whole}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def exchange(self, intake: Intake | None = None) -> Exchange:
        return Exchange(self.scope, self.receive, self.send, intake or Intake())

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent if message["type"] == "http.response.body")


async def test_a_body_is_what_its_pieces_were() -> None:
    assert await Wire(b"one ", b"", b"two").exchange().body() == b"one two"


async def test_a_body_over_the_largest_is_refused_before_it_is_whole() -> None:
    wire = Wire(b"x" * 600, b"x" * 600, b"x" * 600)
    with pytest.raises(PayloadTooLargeError):
        await wire.exchange(Intake(1000)).body()
    assert (await wire.receive())["body"]  # the rest was not asked for


async def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    wire = Wire(b"x", headers={b"content-length": b"1001"})
    with pytest.raises(PayloadTooLargeError):
        await wire.exchange(Intake(1000)).body()
    assert (await wire.receive())["body"] == b"x"


async def test_bodies_that_are_held_together_are_bounded_and_room_is_made_when_they_are_let_go() -> None:
    intake = Intake(1000, 2500)
    held = [Wire(b"x" * 1000).exchange(intake) for _ in range(2)]
    await asyncio.gather(*(exchange.body() for exchange in held))

    refused = Wire(b"x" * 400, b"x" * 400).exchange(intake)
    with pytest.raises(UnavailableError):
        await refused.body()
    small = Wire(b"x" * 100).exchange(intake)
    assert await small.body()  # what was held of the refused one still counts

    held[0].release()
    held[0].release()
    assert await Wire(b"x" * 1000).exchange(intake).body()


async def test_a_body_whose_client_left_makes_room_again() -> None:
    intake = Intake(1000, 1000)
    gone = Wire(b"x" * 900, whole=False).exchange(intake)
    with pytest.raises(ClientGone):
        await gone.body()
    gone.release()
    assert await Wire(b"x" * 1000).exchange(intake).body()


@pytest.mark.parametrize("size", [0, 1, limits.WRITE_BYTES, limits.WRITE_BYTES + 1, 5 * limits.WRITE_BYTES])
async def test_an_answer_is_written_in_pieces_and_ends_once(size: int) -> None:
    wire, content = Wire(), bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    await wire.exchange().answer(200, content)

    bodies = [message for message in wire.sent if message["type"] == "http.response.body"]
    assert wire.body == content
    assert all(len(message["body"]) <= limits.WRITE_BYTES for message in bodies)
    assert [message["more_body"] for message in bodies] == [True] * (len(bodies) - 1) + [False]


async def test_an_answer_that_is_not_read_in_time_ends_without_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWER_SECONDS", 0.2)

    class Dripping(Wire):
        async def send(self, message: Any) -> None:
            await super().send(message)
            await asyncio.sleep(0.15)  # each piece is read, and all of them never

    wire, size = Dripping(), 40 * limits.WRITE_BYTES
    monkeypatch.setattr(limits, "ANSWER_BYTES_PER_SECOND", size)
    async with asyncio.timeout(20):
        assert not await wire.exchange().answer(200, b"x" * size)
    assert 0 < len(wire.body) < size
    assert all(message.get("more_body", True) for message in wire.sent)
    assert await Wire().exchange().answer(200, b"x" * size), "who reads has time"


async def test_a_part_of_a_stream_leaves_it_open() -> None:
    wire = Wire()
    exchange = wire.exchange()
    await exchange.begin_stream()
    await exchange.part(b"x" * (2 * limits.WRITE_BYTES))
    await exchange.end(b"y")

    assert [m.get("more_body") for m in wire.sent] == [None, True, True, False]
    assert wire.body == b"x" * (2 * limits.WRITE_BYTES) + b"y"


async def test_a_reader_that_takes_piece_after_piece_is_not_taken_for_one_that_has_stopped() -> None:
    since: list[float] = []

    class Slow(Wire):
        async def send(self, message: Any) -> None:
            since.append(exchange.sending_since)
            while time.monotonic() == exchange.sending_since:
                pass  # until the clock that is looked at has moved
            await super().send(message)

    wire = Slow()
    exchange = wire.exchange()
    await exchange.part(b"x" * (3 * limits.WRITE_BYTES))

    assert 0 < since[0] < since[1] < since[2]
    assert exchange.sending_since == 0
