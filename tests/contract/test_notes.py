"""What agents keep for contexts: in order, on the condition that nobody else has written, and until it is replaced."""

from __future__ import annotations

import os

import pytest
from msgspec.structs import replace

from a2a_events import limits
from a2a_events.errors import Conflict, RecordTooLarge, Unavailable
from a2a_events.log.jetstream import JetStreamLog
from a2a_events.log.jetstream.names import NOTE
from a2a_events.log.port import Log, Notes
from a2a_events.timeline.ids import token
from tests.contract.logs import Kit, new_task


async def test_notes_come_back_in_order_whoever_reads_them(kit: Kit) -> None:
    task = new_task(kit.log)
    assert await kit.log.notes(task, "a context", "book") == Notes()
    position = 0
    for content in (b"one", b"", b"three"):
        position = await kit.log.note(task, "a context", "book", content, position)
        assert await kit.other.notes(task, "a context", "book") == Notes(
            (await kit.log.notes(task, "a context", "book")).contents, position
        )
    assert (await kit.other.notes(task, "a context", "book")).contents == (b"one", b"", b"three")


async def test_notes_belong_to_an_agent_a_tenant_a_context_and_a_name(log: Log) -> None:
    task = new_task(log)
    await log.note(task, "context", "book", b"mine", 0)
    same = new_task(log, shard=1)
    assert (await log.notes(same, "context", "book")).contents == (b"mine",), "another task of the context"
    for other, context, name in (
        (replace(task, agent="other"), "context", "book"),
        (replace(task, tenant=token("other")), "context", "book"),
        (task, "context.*", "book"),
        (task, "context", "other"),
    ):
        assert await log.notes(other, context, name) == Notes()


async def test_a_note_is_written_only_after_the_newest(kit: Kit) -> None:
    task = new_task(kit.log)
    first = await kit.log.note(task, "context", "book", b"first", 0)
    for stale in (0, first + 1):
        for anew in (False, True):
            with pytest.raises(Conflict):
                await kit.other.note(task, "context", "book", b"stale", stale, anew=anew)
    assert await kit.log.notes(task, "context", "book") == Notes((b"first",), first)


async def test_a_note_that_replaces_the_others_is_all_there_is(kit: Kit) -> None:
    task = new_task(kit.log)
    position = 0
    for number in range(3):
        position = await kit.log.note(task, "context", "book", b"%d" % number, position)
    position = await kit.log.note(task, "context", "book", b"all", position, anew=True)
    assert await kit.other.notes(task, "context", "book") == Notes((b"all",), position)
    position = await kit.other.note(task, "context", "book", b"more", position)
    assert await kit.log.notes(task, "context", "book") == Notes((b"all", b"more"), position)


async def test_a_note_that_no_message_holds_comes_back_whole(kit: Kit) -> None:
    task = new_task(kit.log)
    large, larger = os.urandom(limits.RECORD_BYTES * 2), os.urandom(limits.RECORD_BYTES + 1)
    position = await kit.log.note(task, "context", "book", large, 0)
    position = await kit.log.note(task, "context", "book", b"small", position)
    assert await kit.other.notes(task, "context", "book") == Notes((large, b"small"), position)
    position = await kit.log.note(task, "context", "book", larger, position, anew=True)
    assert await kit.other.notes(task, "context", "book") == Notes((larger,), position)


async def test_a_note_over_the_limit_is_refused(log: Log) -> None:
    task = new_task(log)
    with pytest.raises(RecordTooLarge):
        await log.note(task, "context", "book", bytes(log.content_bytes + 1), 0)
    assert await log.notes(task, "context", "book") == Notes()


@pytest.mark.integration
async def test_what_an_interrupted_writer_left_is_no_note(kit: Kit) -> None:
    log, task = kit.log, new_task(kit.log)
    if not isinstance(log, JetStreamLog):
        pytest.skip("a note of the memory log has no pieces")
    subject = log._names.notes(task, "context", "book")
    position = await log.note(task, "context", "book", b"whole", 0)
    position = await log._put(subject, b"half", position, {NOTE: "id 0 1 anew"})
    assert await kit.other.notes(task, "context", "book") == Notes((b"whole",), position)
    position = await log.note(task, "context", "book", b"next", position)
    position = await log._put(subject, b"rest", position, {NOTE: "old 1 0"})  # the piece before it was removed
    assert await kit.other.notes(task, "context", "book") == Notes((b"whole", b"next"), position)


@pytest.mark.integration
async def test_what_was_replaced_and_could_not_be_removed_is_no_note(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    log, task = kit.log, new_task(kit.log)
    if not isinstance(log, JetStreamLog):
        pytest.skip("a log in memory removes at once")

    async def fails(_stream: str, _subject: str, _before: int) -> None:
        raise Unavailable

    monkeypatch.setattr(log._notebooks, "_purge", fails)
    position = await log.note(task, "context", "book", b"old", 0)
    position = await log.note(task, "context", "book", b"all", position, anew=True)
    position = await log.note(task, "context", "book", b"more", position)
    assert await kit.other.notes(task, "context", "book") == Notes((b"all", b"more"), position)
