"""A stream outlives its connection: nothing lost, nothing twice, and it ends when its task does."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

import a2a_events.client.stream
from a2a_events.client import BadAnswer, Client, ConnectionFailed, NoAnswer, StreamInterrupted, Update, Updates
from a2a_events.errors import InternalError, TaskNotFoundError, UnavailableError, UnsupportedOperationError
from a2a_events.model import TaskState
from tests.client.conftest import QUICK
from tests.client.scripted import Answer, Gateway, chunk, fault, frame, result, snapshot, status, task
from tests.client.serving import PATIENCE_SECONDS, dead

OPEN = frame(snapshot("SUBMITTED"), "1")
DONE = frame(status("COMPLETED"), "9")


def said(update: Update) -> str:
    """An update in a word."""
    if update.artifact:
        (part,) = update.artifact.artifact.parts
        return str(part.text)
    if update.message:
        return "message"
    return f"{'task ' if update.task else ''}{update.state.name if update.state else '?'}"


async def read(updates: Updates) -> list[str]:
    async with asyncio.timeout(PATIENCE_SECONDS), updates:
        return [f"{said(update)}{'!' if update.resynchronised else ''}" async for update in updates]


# --- going on --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["cut", "end"])
async def test_a_broken_stream_goes_on_at_the_next_gateway_from_its_cursor(
    client: Client, first: Gateway, second: Gateway, then: str
) -> None:
    first.will(Answer(frames=(OPEN, frame(chunk("a"), "2")), then="cut" if then == "cut" else "end"))
    second.will(Answer(frames=(frame(chunk("b"), "3"), DONE)))
    assert ["task SUBMITTED", "a", "b", "COMPLETED"] == await read(client.stream("go"))
    assert ["SendStreamingMessage"] == first.operations
    assert ["SubscribeToTask"] == second.operations
    assert "2" == second.seen[0].headers["last-event-id"]


async def test_a_stream_survives_any_number_of_breaks_that_bring_something(
    client: Client, first: Gateway, second: Gateway
) -> None:
    first.will(Answer(frames=(OPEN,), then="cut"))
    for number in range(10):
        gateway = (second, first)[number % 2]
        gateway.will(Answer(frames=(frame(chunk(str(number)), f"{number + 2}"),), then="cut"))
    second.will(Answer(frames=(DONE,)))
    first.will(Answer(frames=(DONE,)))
    assert ["task SUBMITTED", *map(str, range(10)), "COMPLETED"] == await read(client.stream("go"))


async def test_what_a_resumed_stream_repeats_is_not_delivered_twice(
    client: Client, first: Gateway, second: Gateway
) -> None:
    first.will(Answer(frames=(OPEN, frame(chunk("a"), "2"), frame(chunk("b"), "3")), then="cut"))
    second.will(Answer(frames=(frame(chunk("a"), "2"), frame(chunk("b"), "3"), frame(chunk("c"), "4"), DONE)))
    assert ["task SUBMITTED", "a", "b", "c", "COMPLETED"] == await read(client.stream("go"))


async def test_the_same_words_twice_are_two_updates(client: Client, first: Gateway, second: Gateway) -> None:
    first.will(Answer(frames=(OPEN, frame(chunk("a"), "2"), frame(chunk("a"), "3")), then="cut"))
    second.will(Answer(frames=(frame(chunk("a"), "4"), DONE)))
    assert ["task SUBMITTED", "a", "a", "a", "COMPLETED"] == await read(client.stream("go"))


async def test_ids_that_a_server_counts_anew_for_each_connection_hide_nothing(
    client: Client, first: Gateway, second: Gateway
) -> None:
    first.will(Answer(frames=(frame(snapshot("SUBMITTED"), "0"), frame(chunk("a"), "1")), then="cut"))
    second.will(
        Answer(frames=(frame(snapshot("WORKING"), "0"), frame(chunk("a"), "1"), frame(status("COMPLETED"), "2")))
    )
    assert ["task SUBMITTED", "a", "task WORKING!", "a", "COMPLETED"] == await read(client.stream("go"))


async def test_a_cursor_of_any_characters_travels_back(client: Client, first: Gateway, second: Gateway) -> None:
    first.will(Answer(frames=(OPEN, frame(chunk("a"), "ä:1")), then="cut"))
    second.will(Answer(frames=(DONE,)))
    await read(client.stream("go"))
    assert "ä:1".encode() == second.seen[0].headers["last-event-id"].encode("utf-8", "surrogateescape")


async def test_an_id_that_no_header_can_hold_is_no_cursor(client: Client, first: Gateway, second: Gateway) -> None:
    first.will(Answer(frames=(OPEN, frame(chunk("a"), "x\x01")), then="cut"))
    second.will(Answer(frames=(frame(snapshot("COMPLETED")),)))
    assert ["task SUBMITTED", "a", "task COMPLETED!"] == await read(client.stream("go"))
    assert "last-event-id" not in second.seen[0].headers


async def test_a_position_without_an_update_moves_the_cursor(client: Client, first: Gateway, second: Gateway) -> None:
    first.will(Answer(frames=(OPEN, b"id: 5\n\n"), then="cut"))
    second.will(Answer(frames=(DONE,)))
    await read(client.stream("go"))
    assert "5" == second.seen[0].headers["last-event-id"]


async def test_updates_from_the_future_are_passed_over(client: Client, first: Gateway) -> None:
    first.will(Answer(frames=(OPEN, frame({"dream": {"of": "sheep"}}, "2"), frame({}, "3"), DONE)))
    assert ["task SUBMITTED", "COMPLETED"] == await read(client.stream("go"))


async def test_canceling_a_pending_read_loses_nothing(client: Client, first: Gateway, second: Gateway) -> None:
    first.will(Answer(frames=(OPEN, frame(chunk("a"), "2")), then="silence"))
    first.will(Answer(frames=(frame(chunk("b"), "3"), DONE)))
    async with client.stream("go") as updates:
        assert ["task SUBMITTED", "a"] == [said(await anext(updates)) for _ in range(2)]
        pending = asyncio.ensure_future(anext(updates))
        await asyncio.sleep(0)
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
        assert ["b", "COMPLETED"] == [said(update) async for update in updates]
    assert "2" == first.seen[1].headers["last-event-id"]


async def test_silence_longer_than_the_limit_counts_as_broken(first: Gateway, second: Gateway) -> None:
    first.will(Answer(frames=(OPEN,), then="silence"))
    second.will(Answer(frames=(DONE,)))
    async with Client.at([first.url, second.url], "JSONRPC", retry=QUICK, stall_seconds=0.05) as client:
        assert ["task SUBMITTED", "COMPLETED"] == await read(client.stream("go"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await first.left.wait()


async def test_leaving_early_closes_the_connection(client: Client, first: Gateway) -> None:
    first.will(Answer(frames=(OPEN,), then="silence"))
    async with client.stream("go") as updates:
        async for _ in updates:
            break
    async with asyncio.timeout(PATIENCE_SECONDS):
        await first.left.wait()


async def test_as_many_streams_as_anyone_wants_are_open_at_once(first: Gateway) -> None:
    first.will(*[Answer(frames=(OPEN,), then="silence")] * 150)
    async with Client.at(first.url, "JSONRPC") as client, contextlib.AsyncExitStack() as stack:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(150):
                updates = await stack.enter_async_context(client.stream("go"))
                assert "task SUBMITTED" == said(await anext(updates))


async def test_the_other_binding_resumes_as_well(first: Gateway, second: Gateway) -> None:
    def rest(framed: bytes) -> bytes:
        return framed.replace(b'{"jsonrpc": "2.0", "id": 1, "result": ', b"").replace(b"}\n\n", b"\n\n")

    first.will(Answer(frames=(rest(OPEN), rest(frame(chunk("a"), "2"))), then="cut"))
    second.will(Answer(status=405, body={}), Answer(frames=(rest(DONE),)))
    async with Client.at([first.url, second.url], "HTTP+JSON", tenant="acme", retry=QUICK) as client:
        assert ["task SUBMITTED", "a", "COMPLETED"] == await read(client.stream("go"))
    assert ["POST /acme/message:stream"] == first.operations
    assert ["POST /acme/tasks/t1:subscribe", "GET /acme/tasks/t1:subscribe"] == second.operations
    assert ["2", "2"] == [seen.headers["last-event-id"] for seen in second.seen]


# --- what servers ask for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, 502, 503, 504])
async def test_a_gateway_that_is_busy_is_passed_over(
    client: Client, first: Gateway, second: Gateway, code: int
) -> None:
    first.will(Answer(frames=(OPEN,), then="cut"), Answer(frames=(DONE,)))
    second.will(Answer(status=code, body={}))
    assert ["task SUBMITTED", "COMPLETED"] == await read(client.stream("go"))
    assert "1" == first.seen[1].headers["last-event-id"]


async def test_retry_after_is_waited_for_where_nobody_else_is_left(first: Gateway) -> None:
    first.will(
        Answer(frames=(OPEN,), then="cut"),
        Answer(status=503, body={}, headers={"retry-after": "1"}),
        Answer(frames=(DONE,)),
    )
    async with Client.at(first.url, "JSONRPC", retry=QUICK) as client:
        begin = asyncio.get_running_loop().time()
        assert ["task SUBMITTED", "COMPLETED"] == await read(client.stream("go"))
        assert asyncio.get_running_loop().time() - begin >= 1


async def test_another_gateway_is_asked_while_one_wants_to_be_left_alone(
    client: Client, first: Gateway, second: Gateway
) -> None:
    first.will(Answer(frames=(OPEN,), then="cut"), Answer(status=503, body={}), Answer(frames=(DONE,)))
    second.will(Answer(status=503, body={}, headers={"retry-after": "50"}))
    assert ["task SUBMITTED", "COMPLETED"] == await read(client.stream("go"))


async def test_a_server_that_wants_hours_is_not_waited_for(first: Gateway) -> None:
    first.will(Answer(frames=(OPEN,), then="cut"), Answer(status=503, body={}, headers={"retry-after": "7200"}))
    async with Client.at(first.url, "JSONRPC", retry=QUICK) as client:
        with pytest.raises(StreamInterrupted) as caught:
            await read(client.stream("go"))
    assert 7200 == caught.value.retry_after_seconds


async def test_the_time_that_a_stream_names_is_waited_before_reconnecting(client: Client, first: Gateway) -> None:
    first.will(Answer(frames=(b"retry: 300\n\n", OPEN), then="cut"), Answer(frames=(DONE,)))
    begin = asyncio.get_running_loop().time()
    async with Client.at(first.url, "JSONRPC", retry=QUICK) as alone:
        assert ["task SUBMITTED", "COMPLETED"] == await read(alone.stream("go"))
    assert asyncio.get_running_loop().time() - begin >= 0.3


async def test_a_gateway_may_say_good_bye_in_mid_stream(client: Client, first: Gateway, second: Gateway) -> None:
    farewell = b"data: " + str(fault(-32603, "UNAVAILABLE")).replace("'", '"').encode() + b"\n\n"
    first.will(Answer(frames=(OPEN, farewell), then="end"))
    second.will(Answer(frames=(DONE,)))
    assert ["task SUBMITTED", "COMPLETED"] == await read(client.stream("go"))


# --- servers without cursors -----------------------------------------------------------------------------------------


async def test_without_cursors_a_task_bridges_the_gap_and_says_so(
    client: Client, first: Gateway, second: Gateway
) -> None:
    first.will(Answer(frames=(frame(snapshot("SUBMITTED")), frame(chunk("a"))), then="cut"))
    second.will(Answer(frames=(frame(snapshot("WORKING")), frame(status("COMPLETED")))))
    assert ["task SUBMITTED", "a", "task WORKING!", "COMPLETED"] == await read(client.stream("go"))
    assert "last-event-id" not in second.seen[0].headers


async def test_a_task_that_says_nothing_new_is_not_repeated(client: Client, first: Gateway, second: Gateway) -> None:
    first.will(Answer(frames=(frame(snapshot("WORKING")),), then="cut"))
    second.will(Answer(frames=(frame(snapshot("WORKING")), frame(status("COMPLETED")))))
    assert ["task WORKING", "COMPLETED"] == await read(client.stream("go"))


async def test_a_gap_before_an_update_that_is_no_task_is_marked_too(
    client: Client, first: Gateway, second: Gateway
) -> None:
    first.will(Answer(frames=(frame(snapshot("WORKING")),), then="cut"))
    second.will(Answer(frames=(frame(chunk("z")), frame(status("COMPLETED")))))
    assert ["task WORKING", "z!", "COMPLETED"] == await read(client.stream("go"))


async def test_a_task_that_ended_while_nobody_looked_is_fetched(
    client: Client, first: Gateway, second: Gateway
) -> None:
    first.will(Answer(frames=(frame(snapshot("WORKING")),), then="cut"), result(task("COMPLETED")))
    second.will(Answer(body=fault(-32004)), result(task("COMPLETED")))
    assert ["task WORKING", "task COMPLETED!"] == await read(client.stream("go"))


async def test_a_server_without_subscriptions_says_so(client: Client, first: Gateway, second: Gateway) -> None:
    first.will(Answer(frames=(frame(snapshot("WORKING")),), then="cut"), result(task("WORKING")))
    second.will(Answer(body=fault(-32004)), result(task("WORKING")))
    with pytest.raises(UnsupportedOperationError):
        await read(client.stream("go"))


async def test_a_resumed_stream_that_has_nothing_left_ends_with_the_task(client: Client, first: Gateway) -> None:
    first.will(Answer(frames=()))
    first.will(result(task("COMPLETED")))
    async with Client.at(first.url, "JSONRPC", retry=QUICK) as alone:
        assert ["task COMPLETED!"] == await read(alone.subscribe("t1", "9"))


# --- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CANCELED", "REJECTED"])
async def test_a_stream_ends_with_its_task_even_if_the_server_does_not_close_it(
    client: Client, first: Gateway, state: str
) -> None:
    first.will(Answer(frames=(OPEN, frame(status(state))), then="silence"))
    assert ["task SUBMITTED", state] == await read(client.stream("go"))


async def test_a_message_is_the_whole_answer(client: Client, first: Gateway) -> None:
    reply = {"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "hi"}]}}
    first.will(Answer(frames=(frame(reply),), then="silence"))
    assert ["message"] == await read(client.stream("go"))


@pytest.mark.parametrize("state", ["INPUT_REQUIRED", "AUTH_REQUIRED"])
@pytest.mark.parametrize("then", ["cut", "end"])
async def test_a_stream_that_ends_where_its_client_is_asked_is_complete(
    client: Client, first: Gateway, state: str, then: str
) -> None:
    first.will(Answer(frames=(OPEN, frame(status(state), "2")), then="cut" if then == "cut" else "end"))
    assert ["task SUBMITTED", state] == await read(client.stream("go"))


async def test_a_subscription_waits_on_through_interrupted_states(
    client: Client, first: Gateway, second: Gateway
) -> None:
    first.will(Answer(frames=(frame(snapshot("INPUT_REQUIRED"), "2"),)))
    second.will(Answer(frames=(frame(status("WORKING"), "3"), DONE)))
    assert ["task INPUT_REQUIRED", "WORKING", "COMPLETED"] == await read(client.subscribe("t1"))


async def test_a_connection_is_used_again_after_a_stream_that_ended(client: Client, first: Gateway) -> None:
    first.will(Answer(frames=(OPEN, DONE)), result(task("COMPLETED")))
    await read(client.stream("go"))
    await client.get("t1")
    (pool,) = [client._http._transport]
    assert 1 == len(pool._pool.connections)  # type: ignore[attr-defined]


# --- giving up -------------------------------------------------------------------------------------------------------


async def test_giving_up_says_where_to_go_on(client: Client, first: Gateway, second: Gateway) -> None:
    first.will(Answer(frames=(OPEN, frame(chunk("a"), "2")), then="cut"), *[Answer(status=503, body={})] * 9)
    second.will(*[Answer(status=503, body={})] * 9)
    with pytest.raises(StreamInterrupted) as caught:
        await read(client.stream("go"))
    assert ("t1", "2", True) == (caught.value.task_id, caught.value.cursor, caught.value.retry_safe)
    assert isinstance(caught.value.__cause__, UnavailableError)
    assert QUICK.attempts == len(first.seen) + len(second.seen) - 1


async def test_connections_that_bring_nothing_are_counted(client: Client, first: Gateway, second: Gateway) -> None:
    first.will(Answer(frames=(OPEN,), then="cut"), *[Answer(frames=(b": hello\n\n",), then="cut")] * 9)
    second.will(*[Answer(frames=(b": hello\n\n",), then="cut")] * 9)
    with pytest.raises(StreamInterrupted):
        await read(client.stream("go"))


async def test_connections_that_lived_long_are_not_counted(
    client: Client, first: Gateway, second: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(a2a_events.client.stream, "STEADY_SECONDS", 0.0)
    first.will(Answer(frames=(OPEN,), then="cut"), *[Answer(frames=(b": hello\n\n",), then="cut")] * 5)
    second.will(*[Answer(frames=(b": hello\n\n",), then="cut")] * 5, Answer(frames=(DONE,)))
    first.will(Answer(frames=(DONE,)))
    assert ["task SUBMITTED", "COMPLETED"] == await read(client.stream("go"))


async def test_a_message_whose_stream_broke_before_its_first_update_is_not_sent_again(
    client: Client, first: Gateway, second: Gateway
) -> None:
    first.will(Answer(then="cut"))
    with pytest.raises(NoAnswer) as caught:
        await read(client.stream("go", idempotency_key="k1", task_id="t1"))
    assert ("k1", False) == (caught.value.idempotency_key, caught.value.retry_safe)
    assert "k1" == first.seen[0].headers["idempotency-key"]
    assert [] == second.seen


async def test_a_message_that_reached_nobody_is_sent_to_the_next(second: Gateway) -> None:
    second.will(Answer(frames=(OPEN, DONE)))
    with dead() as url:
        async with Client.at([url, second.url], "JSONRPC", retry=QUICK) as client:
            assert ["task SUBMITTED", "COMPLETED"] == await read(client.stream("go"))
            second.will(Answer(frames=(OPEN, DONE)))
            await read(client.stream("go"))  # the dead one went last
    keys = {seen.headers["idempotency-key"] for seen in second.seen}
    assert 2 == len(keys)


async def test_nobody_there_is_an_error_that_is_safe_to_repeat() -> None:
    with dead() as url:
        async with Client.at(url, "JSONRPC", retry=QUICK) as client:
            with pytest.raises(ConnectionFailed) as caught:
                await read(client.stream("go"))
            assert caught.value.retry_safe
            with pytest.raises(ConnectionFailed):
                await read(client.subscribe("t1", "5"))


async def test_a_busy_gateway_does_not_get_the_message_twice(client: Client, first: Gateway, second: Gateway) -> None:
    first.will(Answer(status=503, body={}))
    with pytest.raises(UnavailableError):
        await read(client.stream("go"))
    assert [] == second.seen


# --- errors of the server --------------------------------------------------------------------------------------------


async def test_an_error_instead_of_a_stream_is_raised_on_entering(client: Client, first: Gateway) -> None:
    first.will(Answer(body=fault(-32001)))
    with pytest.raises(TaskNotFoundError):
        await client.subscribe("t1").__aenter__()


async def test_subscribing_to_a_task_that_has_ended_is_the_servers_error(client: Client, first: Gateway) -> None:
    first.will(Answer(body=fault(-32004)))
    with pytest.raises(UnsupportedOperationError):
        await read(client.subscribe("t1"))


async def test_an_error_in_mid_stream_ends_it_with_its_class(client: Client, first: Gateway) -> None:
    error = b"event: error\ndata: " + str(fault(-32603, message="gone")).replace("'", '"').encode() + b"\n\n"
    first.will(Answer(frames=(OPEN, error)))
    async with client.stream("go") as updates:
        assert "task SUBMITTED" == said(await anext(updates))
        with pytest.raises(InternalError, match="gone"):
            await anext(updates)
        with pytest.raises(StopAsyncIteration):
            await anext(updates)


@pytest.mark.parametrize("data", [b"data: nonsense\n\n", b'data: {"jsonrpc":"2.0"}\n\n', frame({"task": {"id": 7}})])
async def test_an_update_that_cannot_be_read_ends_the_stream(client: Client, first: Gateway, data: bytes) -> None:
    first.will(Answer(frames=(OPEN, data)))
    with pytest.raises(BadAnswer):
        await read(client.stream("go"))


async def test_an_answer_that_is_no_stream_is_a_bad_answer(client: Client, first: Gateway) -> None:
    first.will(result(task("COMPLETED")))
    with pytest.raises(BadAnswer):
        await read(client.stream("go"))


def test_a_cursor_that_no_server_gave_is_refused(first: Gateway) -> None:
    with pytest.raises(ValueError, match="cursor"):
        Client(first.url).subscribe("t1", "a\nb")


async def test_a_stream_knows_its_task_and_cursor(client: Client, first: Gateway) -> None:
    first.will(Answer(frames=(OPEN, DONE)))
    async with client.stream("go") as updates:
        assert (None, None) == (updates.task_id, updates.cursor)
        update = await anext(updates)
        assert ("t1", "1", "1") == (updates.task_id, updates.cursor, update.cursor)
        assert TaskState.SUBMITTED is update.state
