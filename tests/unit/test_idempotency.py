"""Idempotency keys: what they name, when two requests are the same, and what a task remembers of them (ADR 0018)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from a2a.types import a2a_pb2
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st

from a2a_events import limits
from a2a_events.bindings.grpc import messages
from a2a_events.errors import InvalidParamsError, TaskNotFoundError
from a2a_events.model import SendMessageRequest, TaskState, decode
from a2a_events.timeline import decide, ids
from a2a_events.timeline.fold import Head, TaskFold
from a2a_events.timeline.idempotency import KeyScope, derived_task_id, is_key, mark
from a2a_events.timeline.record import entry
from a2a_events.timeline.snapshot import restore, take
from tests.unit.timeline_builders import CONTEXT, NOW, TASK, Timeline, received, status, submitted

SCOPE = KeyScope("acme", "alice", "writer")
texts = st.text(max_size=8)
BODY: dict[str, Any] = {
    "message": {
        "messageId": "m-1",
        "role": "ROLE_USER",
        "parts": [{"text": "a"}, {"data": {"n": 3, "deep": [{"x": 1.5, "y": None}]}, "metadata": {"b": 1, "a": 2}}],
        "metadata": {"one": 1, "two": [True, "2"]},
    },
    "configuration": {"acceptedOutputModes": ["text/plain"]},
    "metadata": {"z": {"b": 1, "a": 2}},
}


def request(body: dict[str, Any], **how: Any) -> SendMessageRequest:
    return decode(json.dumps(body, **how).encode(), SendMessageRequest)


def body_of(body: dict[str, Any], key: str = "k", **how: Any) -> str:
    return mark(key, SCOPE, request(body, **how)).body


# --- what a key names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["k", "~", "!", '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "x" * 255])
def test_these_are_keys(key: str) -> None:
    assert is_key(key)


@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "\x7f", "é", "a\x00", "x" * 256, "k "])
def test_these_are_none(key: str) -> None:
    assert not is_key(key)


@settings(max_examples=100, deadline=None)
@given(st.tuples(texts, texts, texts, texts), st.tuples(texts, texts, texts, texts), st.integers(1, 8))
def test_a_task_is_named_by_tenant_caller_agent_and_key_together(
    one: tuple[str, str, str, str], other: tuple[str, str, str, str], shards: int
) -> None:
    made, again = [derived_task_id(key, KeyScope(*scope), "main", shards) for *scope, key in (one, other)]
    assert (one == other) == (made == again)
    assert ("main", made[1]) == ids.parse_task_id(made[0])
    assert made[1] < shards


def test_nothing_of_one_part_can_pass_for_the_next() -> None:
    scopes = [KeyScope("ab", "c", "d"), KeyScope("a", "bc", "d"), KeyScope("a", "b", "cd"), KeyScope("", "abc", "d")]
    assert 4 == len({derived_task_id("k", scope, "main", 1) for scope in scopes})


def test_a_derived_id_is_as_it_was_promised() -> None:
    """It must be the same in every version: a client's retry may meet a newer gateway."""
    assert ("t1-main-1-k5tXxEXs3A4kxonvkcm0JQ", 1) == derived_task_id("key-1", SCOPE, "main", 4)
    assert ("k5tXxEXs3A4kxonvkcm0JQ", "95avRIds-PZeh91yn5_8Sg") == msgspec.structs.astuple(
        mark("key-1", SCOPE, request(BODY))
    )


def test_keys_are_spread_over_the_shards() -> None:
    shards = [derived_task_id(str(number), SCOPE, "main", 4)[1] for number in range(400)]
    assert all(60 < shards.count(shard) < 140 for shard in range(4))


def test_nothing_kept_shows_the_key() -> None:
    secret = "a-secret-key-of-a-client"
    made = mark(secret, SCOPE, request(BODY))
    assert secret not in f"{made} {derived_task_id(secret, SCOPE, 'main', 4)}"
    # Nor can what was asked for be guessed from its hash without the key.
    assert made.body != mark("another", SCOPE, request(BODY)).body


# --- when two requests are the same ----------------------------------------------------------------------------------


def _reversed(value: Any) -> Any:
    """The same JSON with the members of every object in another order."""
    if isinstance(value, dict):
        return {name: _reversed(value[name]) for name in reversed(value)}
    return [_reversed(element) for element in value] if isinstance(value, list) else value


def test_order_and_spacing_of_json_do_not_matter() -> None:
    assert body_of(BODY) == body_of(_reversed(BODY), indent=3)


def test_the_names_of_the_proto_are_the_same_members() -> None:
    snake = json.loads(json.dumps(BODY).replace("messageId", "message_id").replace("acceptedOut", "accepted_out"))
    snake["configuration"] = {"accepted_output_modes": ["text/plain"]}
    assert body_of(BODY) == body_of(snake)


def test_a_retry_may_come_through_another_binding() -> None:
    over_grpc = messages.request(ParseDict(BODY, a2a_pb2.SendMessageRequest()), "acme", SendMessageRequest)
    assert body_of(BODY) == mark("k", SCOPE, over_grpc).body


def test_whole_numbers_may_be_written_as_protobuf_does() -> None:
    one = {"message": {**BODY["message"], "metadata": {"n": 3, "big": 2**60}}}
    other = {"message": {**BODY["message"], "metadata": {"n": 3.0, "big": 2**60}}}
    third = {"message": {**BODY["message"], "metadata": {"n": 3, "big": 2**60 + 1}}}
    assert body_of(one) == body_of(other) != body_of(third)


@pytest.mark.parametrize(
    "shown", [{"historyLength": 3}, {"returnImmediately": True}, {"historyLength": 0, "returnImmediately": True}]
)
def test_how_the_answer_is_wanted_does_not_matter(shown: dict[str, Any]) -> None:
    assert body_of(BODY) == body_of({**BODY, "configuration": {**BODY["configuration"], **shown}})
    without = {"message": BODY["message"]}
    assert body_of(without) == body_of({**without, "configuration": shown, "metadata": {}})


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {}},
        {"metadata": {"z": {"b": 1, "a": 3}}},
        {"configuration": {"acceptedOutputModes": ["text/html"]}},
        {"configuration": {"taskPushNotificationConfig": {"url": "https://example.com/"}}},
        {"message": {**BODY["message"], "parts": [{"text": "b"}]}},
        {"message": {**BODY["message"], "parts": BODY["message"]["parts"][::-1]}},
        {"message": {**BODY["message"], "messageId": "m-2"}},
        {"message": {**BODY["message"], "contextId": "c"}},
        {"message": {**BODY["message"], "taskId": TASK}},
        {"message": {**BODY["message"], "metadata": {"one": True, "two": [True, "2"]}}},
    ],
)
def test_whatever_is_asked_for_matters(change: dict[str, Any]) -> None:
    assert body_of(BODY) != body_of({**BODY, **change})


# --- what a task remembers -------------------------------------------------------------------------------------------


def keyed(number: int, body: str = "b") -> Any:
    return received(f"m{number}", idempotency_key=f"k{number}", body_hash=f"{body}{number}")


def told(head: Head, event: Any) -> list[Any]:
    return decide.message(head, event, CONTEXT, NOW)


def test_a_message_that_is_there_is_not_written_again() -> None:
    timeline = Timeline()
    timeline.add(entry(submitted(idempotency_key="k0", body_hash="b0"), NOW))
    timeline.add(entry(keyed(1), NOW))
    head = timeline.head
    assert [] == told(head, keyed(1))
    assert 1 == len(told(head, keyed(2)))
    assert 1 == len(told(head, received("m1")))  # the message's own id is no key


def test_a_message_without_a_key_is_never_a_repetition() -> None:
    timeline = Timeline()
    timeline.add(entry(submitted(), NOW))
    timeline.add(entry(received("m1"), NOW))
    assert (None, ()) == (timeline.head.created_under, timeline.head.keys)
    assert 1 == len(told(timeline.head, received("m1")))


@pytest.mark.parametrize("number", [0, 1])
def test_a_key_with_another_body_is_refused(number: int) -> None:
    timeline = Timeline()
    timeline.add(entry(submitted(idempotency_key="k0", body_hash="b0"), NOW))
    timeline.add(entry(keyed(1), NOW))
    with pytest.raises(InvalidParamsError) as refused:
        told(timeline.head, keyed(number, "other"))
    assert ["Idempotency-Key"] == [field for field, _ in refused.value.violations]
    assert "new key" in refused.value.message


def test_a_repetition_is_known_whatever_became_of_the_task() -> None:
    """Even where a new message would be refused: the generation has moved, the task has ended."""
    timeline = Timeline()
    timeline.add(entry(submitted(idempotency_key="k0", body_hash="b0"), NOW))
    timeline.add(entry(keyed(1), NOW))
    timeline.add(status(TaskState.COMPLETED))
    head = timeline.head
    assert head.terminal
    assert [] == decide.message(head, keyed(1), CONTEXT, NOW, generation=0)
    assert decide.taken_before(head, submitted(idempotency_key="k0", body_hash="b0"))


def test_who_may_not_see_the_task_learns_nothing_of_its_keys() -> None:
    timeline = Timeline()
    timeline.add(entry(submitted(replies="either"), NOW))
    timeline.add(entry(keyed(1), NOW))
    with pytest.raises(TaskNotFoundError):
        told(timeline.head, keyed(1))


def test_a_task_remembers_so_many_keys_and_always_that_of_its_first_message() -> None:
    timeline = Timeline()
    timeline.add(entry(submitted(idempotency_key="k0", body_hash="b0"), NOW))
    for number in range(1, limits.YOUNG_KEYS + 2):
        timeline.add(entry(keyed(number), NOW))
    head = timeline.head
    assert limits.YOUNG_KEYS == len(head.keys)
    assert "" == head.body_under("k1")
    assert ["b0", "b2"] == [head.body_under("k0"), head.body_under("k2")]
    restored = restore(take(TaskFold.of(timeline.records)).head)
    assert restored is not None
    assert (head.keys, head.created_under) == (restored.head.keys, restored.head.created_under)
