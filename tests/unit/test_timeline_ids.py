"""How tasks are named, and that no other string can pass for such a name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2a_events.timeline import ids

PROPERTY = settings(max_examples=100, deadline=None)
logs = st.text("abcxyz0189", min_size=1, max_size=16)
shards = st.integers(0, 999)
randomness = st.binary(min_size=16, max_size=16)
RANDOM = "AAAAAAAAAAAAAAAAAAAAAA"


@PROPERTY
@given(logs, shards, randomness)
def test_an_id_says_where_its_task_lives(log: str, shard: int, random: bytes) -> None:
    made = ids.task_id(log, shard, random)
    assert (log, shard) == ids.parse_task_id(made)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", made)


@PROPERTY
@given(randomness, randomness)
def test_other_randomness_is_another_id_and_the_same_is_the_same(one: bytes, other: bytes) -> None:
    assert (one == other) == (ids.task_id("main", 0, one) == ids.task_id("main", 0, other))


def test_an_id_is_as_it_was_promised() -> None:
    assert f"t1-main-3-{RANDOM}" == ids.task_id("main", 3, bytes(16))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "t1",
        "t1-main-0-",
        f"t2-main-0-{RANDOM}",
        f"T1-main-0-{RANDOM}",
        f"t1--0-{RANDOM}",
        f"t1-Main-0-{RANDOM}",
        f"t1-{'a' * 17}-0-{RANDOM}",
        f"t1-main-00-{RANDOM}",
        f"t1-main-1000-{RANDOM}",
        f"t1-main--1-{RANDOM}",
        f"t1-main-x-{RANDOM}",
        f"t1-main-٣-{RANDOM}",
        f"t1-main-0-{RANDOM[:15]}",
        f"t1-main-0-{'A' * 33}",
        f"t1-main-0-{RANDOM}\n",
        f" t1-main-0-{RANDOM}",
        f"t1-main-0-{RANDOM}.out",
        f"t1-main-0-{RANDOM[:-1]}*",
        f"t1-main-0-{RANDOM[:-1]}>",
        f"t1-main-0-{RANDOM[:-1]}.",
        f"t1-main-0-{RANDOM[:-1]}/",
        f"t1-main-0-{RANDOM[:-1]}=",
        f"t1-main-0-{RANDOM[:-1]}é",
        f"t1-main-0-{RANDOM[:-1]}\x00",
        f"t1-main-0-{RANDOM[:-1]}\ud800",
        "../../etc/passwd",
        "a2a.log.>",
        "t1-" + "a" * 1_000_000,
    ],
)
def test_an_id_that_we_never_made_names_no_task(text: str) -> None:
    assert ids.parse_task_id(text) is None
    assert ids.reference(text, agent="writer", tenant="acme") is None


@PROPERTY
@given(st.text(max_size=70))
def test_any_text_names_a_task_or_none(text: str) -> None:
    home = ids.parse_task_id(text)
    assert home is None or text.startswith(f"t1-{home[0]}-{home[1]}-")


def test_a_reference_holds_the_tenant_s_token_and_never_its_name() -> None:
    text = ids.task_id("main", 2, bytes(16))
    assert ids.TaskRef("main", 2, "writer", ids.token("a.*.>"), text) == ids.reference(
        text, agent="writer", tenant="a.*.>"
    )


def test_one_id_of_two_tenants_or_agents_is_two_tasks() -> None:
    text = ids.task_id("main", 0, bytes(16))
    references = {ids.reference(text, agent=agent, tenant=tenant) for agent in "ab" for tenant in ("", "x", "y")}
    assert 6 == len(references)


@PROPERTY
@given(st.text(max_size=40))
def test_a_token_of_any_text_can_stand_in_a_subject(raw: str) -> None:
    assert re.fullmatch(r"[a-z2-7]{26}", ids.token(raw)) if raw else "-" == ids.token(raw)


def test_a_token_is_as_it_was_promised() -> None:
    assert "-" == ids.token("")
    assert "qivthlmhyfekbiqklot42xv4vj" == ids.token("acme")


@pytest.mark.parametrize("raw", ["\ud800", "acme\udfff"])
def test_a_token_of_text_that_utf_8_cannot_hold_is_a_token_too(raw: str) -> None:
    assert re.fullmatch(r"[a-z2-7]{26}", ids.token(raw))


@PROPERTY
@given(st.text(max_size=20), st.text(max_size=20))
def test_two_names_never_share_a_token(one: str, other: str) -> None:
    assert (one == other) == (ids.token(one) == ids.token(other))


@pytest.mark.parametrize("name", ["a", "agent-1", "A_b", "-", "x" * 64])
def test_a_plain_name_can_stand_in_a_subject(name: str) -> None:
    assert ids.is_name(name)


@pytest.mark.parametrize("name", ["", "a.b", "*", ">", "a b", "é", "a\n", "x" * 65, "$SYS"])
def test_a_name_that_could_steer_a_subject_is_refused(name: str) -> None:
    assert not ids.is_name(name)


def test_no_owner_s_context_is_another_s_however_they_are_called() -> None:
    task = ids.TaskRef("main", 0, "agent", "acme", "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA")
    names = ["", "a", "a\nb", "a\nb\nc", "\n", "\na", '["a\\nb","c"]', "b", "c", "b\nc"]
    pairs = [(subject, context_id) for subject in names for context_id in names]
    assert len({ids.context_of(task, subject=subject, context_id=context_id) for subject, context_id in pairs}) == len(
        pairs
    )


def test_contexts_stay_where_they_were_kept() -> None:
    task = ids.TaskRef("main", 0, "agent", "acme", "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA")
    assert ids.context_of(task, subject="alice", context_id="c\n1").context == ids.token("alice\nc\n1")
