"""What agents keep for contexts: in order, on the condition that nobody else has written, and until it is replaced."""

from __future__ import annotations

import os

import pytest
from msgspec.structs import replace

from a2a_events import limits
from a2a_events.errors import Conflict, RecordTooLarge, Unavailable
from a2a_events.log.jetstream import JetStreamLog
from a2a_events.log.jetstream.names import NOTE
from a2a_events.log.memory import MemoryLog
from a2a_events.log.port import Log, Notes
from a2a_events.timeline.ids import context_of, token
from tests.contract.logs import Kit, a_context, new_task


async def test_notes_come_back_in_order_whoever_reads_them(kit: Kit) -> None:
    talk = a_context(kit.log)
    assert await kit.log.notes(talk, "book") == Notes()
    position = 0
    for content in (b"one", b"", b"three"):
        position = await kit.log.note(talk, "book", content, position)
        assert await kit.other.notes(talk, "book") == Notes((await kit.log.notes(talk, "book")).contents, position)
    assert (await kit.other.notes(talk, "book")).contents == (b"one", b"", b"three")


async def test_notes_belong_to_an_agent_a_tenant_an_owner_a_context_and_a_name(log: Log) -> None:
    task = new_task(log)
    talk = context_of(task, subject="somebody", context_id="talk")
    await log.note(talk, "book", b"mine", 0)
    same = context_of(new_task(log, shard=1), subject="somebody", context_id="talk")
    assert (await log.notes(same, "book")).contents == (b"mine",), "another task of the context"
    for other, name in (
        (replace(talk, agent="other"), "book"),
        (replace(talk, tenant=token("other")), "book"),
        (context_of(task, subject="somebody else", context_id="talk"), "book"),
        (context_of(task, subject="", context_id="talk"), "book"),
        (context_of(task, subject="somebody", context_id="talk.*"), "book"),
        (talk, "other"),
    ):
        assert await log.notes(other, name) == Notes()


async def test_what_is_kept_for_the_contexts_of_a_tenant_is_forgotten_and_no_other_s(kit: Kit) -> None:
    log = kit.log
    if not isinstance(log, JetStreamLog | MemoryLog):
        pytest.skip("this log is not one that forgets")
    talks = [
        context_of(new_task(log, agent=agent, tenant=tenant), subject="somebody", context_id="talk")
        for tenant in ("acme", "other", "")
        for agent in ("one", "two")
    ]
    for talk in talks:
        await log.note(talk, "book", b"noted", 0)
        await log.put_remembered(talk, b"remembered", 0)
    await log.forget_contexts(token("acme"))
    assert [(await kit.other.notes(talk, "book")).contents for talk in talks] == [()] * 2 + [(b"noted",)] * 4
    assert [(await kit.other.remembered(talk))[0] for talk in talks] == [b""] * 2 + [b"remembered"] * 4


async def test_a_note_is_written_only_after_the_newest(kit: Kit) -> None:
    talk = a_context(kit.log)
    first = await kit.log.note(talk, "book", b"first", 0)
    for stale in (0, first + 1):
        for anew in (False, True):
            with pytest.raises(Conflict):
                await kit.other.note(talk, "book", b"stale", stale, anew=anew)
    assert await kit.log.notes(talk, "book") == Notes((b"first",), first)


async def test_a_note_that_replaces_the_others_is_all_there_is(kit: Kit) -> None:
    talk = a_context(kit.log)
    position = 0
    for number in range(3):
        position = await kit.log.note(talk, "book", b"%d" % number, position)
    position = await kit.log.note(talk, "book", b"all", position, anew=True)
    assert await kit.other.notes(talk, "book") == Notes((b"all",), position)
    position = await kit.other.note(talk, "book", b"more", position)
    assert await kit.log.notes(talk, "book") == Notes((b"all", b"more"), position)


async def test_a_note_that_no_message_holds_comes_back_whole(kit: Kit) -> None:
    talk = a_context(kit.log)
    large, larger = os.urandom(limits.RECORD_BYTES * 2), os.urandom(limits.RECORD_BYTES + 1)
    position = await kit.log.note(talk, "book", large, 0)
    position = await kit.log.note(talk, "book", b"small", position)
    assert await kit.other.notes(talk, "book") == Notes((large, b"small"), position)
    position = await kit.log.note(talk, "book", larger, position, anew=True)
    assert await kit.other.notes(talk, "book") == Notes((larger,), position)


async def test_a_note_over_the_limit_is_refused(log: Log) -> None:
    talk = a_context(log)
    with pytest.raises(RecordTooLarge):
        await log.note(talk, "book", bytes(log.content_bytes + 1), 0)
    assert await log.notes(talk, "book") == Notes()


@pytest.mark.integration
async def test_what_an_interrupted_writer_left_is_no_note(kit: Kit) -> None:
    log, talk = kit.log, a_context(kit.log)
    if not isinstance(log, JetStreamLog):
        pytest.skip("a note of the memory log has no pieces")
    subject = log._names.notes(talk, "book")
    position = await log.note(talk, "book", b"whole", 0)
    position = await log._put(subject, b"half", position, {NOTE: "id 0 1 anew"})
    assert await kit.other.notes(talk, "book") == Notes((b"whole",), position)
    position = await log.note(talk, "book", b"next", position)
    position = await log._put(subject, b"rest", position, {NOTE: "old 1 0"})  # the piece before it was removed
    assert await kit.other.notes(talk, "book") == Notes((b"whole", b"next"), position)


@pytest.mark.integration
async def test_what_was_replaced_and_could_not_be_removed_is_no_note(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    log, talk = kit.log, a_context(kit.log)
    if not isinstance(log, JetStreamLog):
        pytest.skip("a log in memory removes at once")

    async def fails(_stream: str, _subject: str, _before: int) -> None:
        raise Unavailable

    monkeypatch.setattr(log._notebooks, "_purge", fails)
    position = await log.note(talk, "book", b"old", 0)
    position = await log.note(talk, "book", b"all", position, anew=True)
    position = await log.note(talk, "book", b"more", position)
    assert await kit.other.notes(talk, "book") == Notes((b"all", b"more"), position)
