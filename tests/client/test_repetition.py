"""Messages whose answers were lost: sent again where the card says that they are taken once, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from a2a_events.client import Client, NoAnswer
from a2a_events.errors import UnavailableError
from a2a_events.model import Task
from tests.client.conftest import QUICK
from tests.client.scripted import Answer, Gateway, Seen, card, fault, frame, result, snapshot, status

IDEMPOTENT_SEND = "urn:a2a-events:idempotent-send:v1"
CUT = Answer(then="cut")
BUSY = Answer(status=503, body=fault(-32603, "UNAVAILABLE"), headers={"retry-after": "0"})
EMPTY = Answer(frames=(b": hello\n\n",))
OPEN, DONE = frame(snapshot("SUBMITTED"), "1"), frame(status("COMPLETED"), "2")


def declares(gateway: Gateway, *, taken_once: bool = True, home: object = None) -> None:
    made = card((gateway.url, "JSONRPC", "1.0"))
    if taken_once:
        params = {} if home is None else {"params": {"home": home}}
        made["capabilities"]["extensions"] = [{"uri": IDEMPOTENT_SEND, **params}]
    gateway.card = made


@pytest.fixture
async def client(first: Gateway, second: Gateway) -> AsyncIterator[Client]:
    """Knows both gateways by their cards, in this order."""
    declares(first)
    declares(second)
    async with Client([first.url, second.url], retry=QUICK) as made:
        yield made


def asked(seen: Seen) -> tuple[str, object]:
    return seen.headers["idempotency-key"], json.loads(seen.body)["params"]


@pytest.mark.parametrize("lost", [CUT, BUSY], ids=["cut", "503"])
async def test_a_message_is_sent_again_as_it_was(client: Client, first: Gateway, second: Gateway, lost: Answer) -> None:
    first.will(lost)
    second.will(result(snapshot("COMPLETED")))
    assert isinstance(await client.send("hi"), Task)
    assert asked(first.seen[0]) == asked(second.seen[0])


@pytest.mark.parametrize("lost", [CUT, BUSY], ids=["cut", "503"])
async def test_a_key_that_was_made_up_says_where_the_first_gateway_is_and_stays_the_same(
    client: Client, first: Gateway, second: Gateway, lost: Answer
) -> None:
    declares(first, home="eu")
    declares(second, home="us")
    first.will(lost)
    second.will(result(snapshot("COMPLETED")))
    await client.send("hi")
    assert asked(first.seen[0]) == asked(second.seen[0])
    key, _ = asked(first.seen[0])
    assert key.startswith("eu.")
    second.will(Answer(frames=(OPEN, DONE)))
    async with client.stream("hi") as updates:
        assert updates.idempotency_key.startswith("us.")
        assert [update async for update in updates]
    assert updates.idempotency_key == asked(second.seen[1])[0]


@pytest.mark.parametrize("home", ["", "two words", "x" * 99, 7], ids=str)
async def test_a_key_says_nothing_that_is_no_name(client: Client, first: Gateway, home: object) -> None:
    declares(first, home=home)
    first.will(result(snapshot("COMPLETED")))
    await client.send("hi")
    assert "." not in asked(first.seen[0])[0]


async def test_a_key_of_the_caller_is_sent_as_it_is(client: Client, first: Gateway) -> None:
    declares(first, home="eu")
    first.will(result(snapshot("COMPLETED")))
    await client.send("hi", idempotency_key="mine")
    assert asked(first.seen[0])[0] == "mine"


@pytest.mark.parametrize("lost", [CUT, BUSY, EMPTY], ids=["cut", "503", "ended"])
async def test_a_stream_that_broke_before_its_first_update_is_asked_for_again(
    client: Client, first: Gateway, second: Gateway, lost: Answer
) -> None:
    first.will(lost)
    second.will(CUT, Answer(frames=(OPEN, DONE)))
    first.will(Answer(frames=(b": hello\n\n",), then="cut"))
    async with client.stream("hi", task_id="t1") as updates:
        seen = [update.state.value async for update in updates if update.state]
    assert ["TASK_STATE_SUBMITTED", "TASK_STATE_COMPLETED"] == seen
    every = [*first.seen, *second.seen]
    assert {"SendStreamingMessage"} == {each.operation for each in every}
    assert 4 == len(every)
    assert all(asked(every[0]) == asked(each) for each in every)


async def test_more_patience_is_had_with_a_gateway_that_is_there(
    client: Client, first: Gateway, second: Gateway
) -> None:
    """A roll-out or a fail-over takes longer than the two tries of a request."""
    first.will(BUSY, BUSY)
    second.will(CUT, result(snapshot("COMPLETED")))
    assert isinstance(await client.send("hi"), Task)
    assert [2, 2] == [len(first.seen), len(second.seen)]


async def test_patience_ends(client: Client, first: Gateway, second: Gateway) -> None:
    first.will(*[BUSY] * 5)
    second.will(*[CUT] * 5)
    with pytest.raises((UnavailableError, NoAnswer)):
        await client.send("hi")
    assert 1 + QUICK.attempts == len(first.seen) + len(second.seen)


async def test_what_a_message_lost_says_how_to_go_on(client: Client, first: Gateway, second: Gateway) -> None:
    first.will(*[CUT] * 5)
    second.will(*[CUT] * 5)
    with pytest.raises(NoAnswer) as caught:
        await client.send("hi", idempotency_key="k1")
    # The same call makes another key where the caller gave none, so it is not called safe.
    assert ("k1", False) == (caught.value.idempotency_key, caught.value.retry_safe)


@pytest.mark.parametrize("streaming", [False, True])
async def test_without_a_key_nothing_is_sent_again(
    client: Client, first: Gateway, second: Gateway, streaming: bool
) -> None:
    first.will(CUT)
    with pytest.raises(NoAnswer):
        await sent(client, streaming, key="")
    assert [] == second.seen


@pytest.mark.parametrize("streaming", [False, True])
async def test_nothing_is_sent_again_to_a_server_that_does_not_say_so(
    client: Client, first: Gateway, second: Gateway, streaming: bool
) -> None:
    declares(first, taken_once=False)
    first.will(CUT)
    with pytest.raises(NoAnswer):
        await sent(client, streaming, key=None)
    assert [] == second.seen


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("lost", [CUT, BUSY], ids=["cut", "503"])
async def test_nothing_is_sent_again_to_a_gateway_of_an_older_version(
    client: Client, first: Gateway, second: Gateway, lost: Answer, streaming: bool
) -> None:
    declares(second, taken_once=False)
    first.will(lost)
    with pytest.raises((NoAnswer, UnavailableError)):
        await sent(client, streaming, key=None)
    assert ([], 1) == (second.seen, second.cards)


async def test_a_message_made_of_text_is_the_same_one_under_the_same_key(client: Client, first: Gateway) -> None:
    first.will(*[result(snapshot("COMPLETED"))] * 3)
    for key in ("k1", "k1", "k2"):
        await client.send("hi", idempotency_key=key)
    one, again, other = [json.loads(seen.body)["params"]["message"]["messageId"] for seen in first.seen]
    assert one == again != other
    assert "k1" not in one


async def sent(client: Client, streaming: bool, *, key: str | None) -> None:
    if streaming:
        async with client.stream("hi", idempotency_key=key) as updates:
            async for _ in updates:
                pass
    else:
        await client.send("hi", idempotency_key=key)
