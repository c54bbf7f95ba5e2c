from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from a2a_events.errors import Unreadable
from a2a_events.model import Message, Part, SendMessageConfiguration, TaskState, encode
from a2a_events.timeline import render
from a2a_events.timeline.bundle import (
    Bundle,
    DamagedBundle,
    moved,
    read,
    redacted,
    renamed,
    without_secrets,
    write,
)
from a2a_events.timeline.events import Actor, DeadLetter, PushConfigSet, Step, Submitted
from a2a_events.timeline.fold import TaskFold
from a2a_events.timeline.ids import task_id
from a2a_events.timeline.record import entry
from a2a_events.timeline.revisions import fold_at
from tests.unit.golden import GOLDEN, every_timeline, records_of
from tests.unit.timeline_builders import CONTEXT, NOW, REF, TASK, Timeline, artifact, said, status, submitted

OTHER = replace(REF, task_id=task_id("main", 0, bytes(range(16))))
CHUNKED = Bundle(REF, tuple(records_of(GOLDEN / "v1" / "chunked-artifacts.ndjson")), Raw(b'{"name":"writer"}'))


@every_timeline
def test_what_is_written_is_read_again_byte_for_byte(path: Path) -> None:
    bundle = Bundle(REF, tuple(records_of(path)))
    again = read(write(bundle))
    assert again == bundle
    assert write(again) == write(bundle)


@given(at=st.integers(0, len(write(CHUNKED)) - 2), to=st.integers(0, 255))
def test_a_changed_byte_is_noticed(at: int, to: int) -> None:
    whole = write(CHUNKED)
    changed = whole[:at] + bytes([to]) + whole[at + 1 :]
    if changed == whole:
        return
    with pytest.raises(DamagedBundle):
        read(changed)


@given(st.integers(0, len(write(CHUNKED)) - 2))
def test_a_bundle_that_was_cut_is_noticed(length: int) -> None:
    with pytest.raises(DamagedBundle):
        read(write(CHUNKED)[:length])


def sealed(*lines: str) -> bytes:
    body = "".join(f"{line}\n" for line in lines).encode()
    return body + json.dumps({"sha256": hashlib.sha256(body).hexdigest()}).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no bundle"),
        (b"PK\x03\x04", "no bundle"),
        (b'{"hello":1}\n{}\n', "no bundle"),
        (sealed(f'{{"bundle":99,"taskId":"{TASK}","agent":"a","tenant":"-","records":0,"events":0}}'), "format 99"),
        (
            sealed('{"bundle":1,"taskId":"../x","agent":"a","tenant":"-","records":0,"events":0}'),
            "not the id of a task",
        ),
        (
            sealed(
                f'{{"bundle":1,"taskId":"{TASK}","agent":"a","tenant":"-","records":1,"events":1}}', '{"position":1}'
            ),
            "record of the bundle is damaged",
        ),
        (
            sealed(f'{{"bundle":1,"taskId":"{TASK}","agent":"a","tenant":"-","records":2,"events":1}}'),
            "holds 0 records",
        ),
    ],
)
def test_what_is_no_bundle_is_refused_with_the_reason(content: bytes, said: str) -> None:
    with pytest.raises(DamagedBundle, match=said):
        read(content)


def test_secrets_of_webhooks_are_left_out() -> None:
    webhook = PushConfigSet(id="w", url="https://example.org/", scheme="Bearer", sealed="s3cr3t")
    timeline = Timeline([entry(submitted(), NOW), entry(webhook, NOW)])
    [record] = timeline.records
    clean = without_secrets(record)
    assert b"s3cr3t" not in clean.payload
    assert TaskFold.of([clean]).head.webhooks[0].url == "https://example.org/"


@every_timeline
def test_without_its_content_a_timeline_goes_the_same_way(path: Path) -> None:
    bundle = Bundle(REF, tuple(records_of(path)))
    clean = redacted(bundle, content=True)
    assert clean.redacted
    for revision in range(1, bundle.revisions + 1):
        before, after = (fold_at(b.records, revision) for b in (bundle, clean))
        assert after.head.phase is before.head.phase
        assert after.head.state is before.head.state
        assert list(after.content.artifacts) == list(before.content.artifacts)


def test_content_and_persons_are_gone() -> None:
    step = Step(epoch=1, name="fetch", result=Raw(b'{"private":"words"}'))
    timeline = Timeline(
        [entry(submitted(metadata=Raw(b'{"k":"private words"}')), NOW)],
        [entry(step, NOW)],
        [artifact("a", "private words", name="private words", metadata={"k": "private words"})],
    )
    content = write(redacted(Bundle(REF, tuple(timeline.records)), content=True))
    for private in (b"private", b"hello", b"alice", b"acme"):
        assert private not in content
    assert b"fetch" in content
    assert TASK.encode() in content


def test_what_matches_a_pattern_is_gone_and_ids_stay() -> None:
    timeline = Timeline([entry(submitted("m1-4711"), NOW)], [artifact("a-4711", "card 4711 is it")])
    clean = redacted(Bundle(REF, tuple(timeline.records)), patterns=[re.compile(r"\d{4}")])
    task = json.loads(render.task(TaskFold.of(clean.records), TASK, {}))
    assert task["artifacts"][0]["parts"][0]["text"] == "card [redacted] is it"
    assert task["artifacts"][0]["artifactId"] == "a-4711"
    assert task["history"][0]["messageId"] == "m1-4711"


@every_timeline
def test_under_another_id_it_is_the_same_task(path: Path) -> None:
    bundle = Bundle(REF, tuple(records_of(path)))
    other = renamed(bundle, OTHER)
    assert TASK.encode() not in write(other)
    fold, folded = TaskFold.of(bundle.records), TaskFold.of(other.records)
    assert folded.head == fold.head
    if fold.head.exists:
        assert render.task(folded, OTHER.task_id, {}).replace(OTHER.task_id.encode(), TASK.encode()) == render.task(
            fold, TASK, {}
        )


@every_timeline
def test_at_other_positions_it_is_the_same_task(path: Path) -> None:
    recorded = records_of(path)
    positions: dict[int, int] = {}
    there = []
    for number, record in enumerate(recorded):
        position = 1000 + 7 * number
        there.append(replace(moved(record, positions), position=position))
        positions[record.position] = position
    fold, folded = TaskFold.of(recorded), TaskFold.of(there)

    assert folded.content == fold.content
    assert folded.head.phase is fold.head.phase
    assert folded.head.lease == positions.get(fold.head.lease, 0)
    assert [p.position for p in folded.head.pending] == [positions[p.position] for p in fold.head.pending]
    assert [p.message_id for p in folded.head.pending] == [p.message_id for p in fold.head.pending]


def resealed(*, head: tuple[bytes, bytes] = (b"", b""), record: tuple[bytes, bytes] = (b"", b"")) -> bytes:
    """A bundle whose head or first record was changed by somebody who knows how to make a checksum."""
    first, second, *rest = write(CHUNKED).decode().splitlines()[:-1]
    assert head[0].decode() in first
    assert record[0].decode() in second
    body = (
        first.encode().replace(*head)
        + b"\n"
        + second.encode().replace(*record, 1)
        + b"\n"
        + "".join(f"{line}\n" for line in rest).encode()
    )
    return body + json.dumps({"sha256": hashlib.sha256(body).hexdigest()}).encode()


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (resealed(head=(b'"agent":"writer"', b'"agent":"*.>"')), "not the name of an agent"),
        (resealed(head=(b'"tenant":"', b'"tenant":"x.y')), "not the token of a tenant"),
        (resealed(head=(b'"bundle":1', b'"bundle":-1')), "format -1"),
        (resealed(head=(b'{"name":"writer"}', DEEP)), "no bundle"),
        (resealed(record=(b'"events":[', b'"events":[' + DEEP + b",")), "record of the bundle is damaged"),
        (resealed(record=(b"alice", b"\xff")), "record of the bundle is damaged"),
        (resealed(record=(b'"header":"1|', b'"header":"1|\\r\\nX: y')), "record of the bundle is damaged"),
        (resealed(record=(b'"position":', b'"position":-')), "not in order"),
        (resealed(record=(b"|0.1.0||", b"|0.1.0|object|")), "stored elsewhere"),
    ],
)
def test_what_no_log_holds_is_refused_though_its_checksum_is_right(content: bytes, said: str) -> None:
    with pytest.raises(DamagedBundle, match=said):
        read(content)


@pytest.mark.parametrize("order", [[1, 0], [0, 2], [0, 0, 1]], ids=["swapped", "one lacks", "one twice"])
def test_records_that_do_not_follow_each_other_are_refused(order: list[int]) -> None:
    records = tuple(CHUNKED.records[at] for at in order)
    with pytest.raises(DamagedBundle, match="not in order"):
        read(write(replace(CHUNKED, records=records)))


def test_a_record_that_cannot_be_read_is_named() -> None:
    webhook = PushConfigSet(id="w", url="https://example.org/", sealed="s3cr3t")
    [record] = Timeline([entry(submitted(), NOW), entry(webhook, NOW)]).records
    damaged = replace(record, payload=record.payload[:-5])
    for change in (without_secrets, lambda it: redacted(Bundle(REF, (it,)), content=True)):
        with pytest.raises(Unreadable, match="record r1 at 3 is damaged"):
            change(damaged)


PRIVATE = "jane@acme.example"


def everywhere() -> Bundle:
    """A bundle in which a private text stands wherever anybody may write one."""
    message = replace(
        msgspec.json.decode(said("m1", PRIVATE), type=Message),
        metadata={PRIVATE: PRIVATE},
        extensions=(PRIVATE,),
        parts=(
            Part(text=PRIVATE, metadata={"state": PRIVATE}, media_type=PRIVATE, filename=PRIVATE),
            Part(data={PRIVATE: [PRIVATE, {"state": PRIVATE, "taskId": PRIVATE, "deep": {PRIVATE: 1}}]}),
            Part(url=PRIVATE),
        ),
    )
    asked = Submitted(
        context_id=CONTEXT,
        message=Raw(encode(message)),
        owner=Actor(tenant=PRIVATE, subject=PRIVATE),
        actor=Actor(tenant=PRIVATE, subject=PRIVATE),
        configuration=Raw(encode(SendMessageConfiguration(accepted_output_modes=(PRIVATE,)))),
        metadata=Raw(encode({"role": PRIVATE})),
        extensions=(PRIVATE,),
    )
    webhook = PushConfigSet(id="w", url=f"https://{PRIVATE}/", scheme=PRIVATE, actor=Actor(subject=PRIVATE))
    dead = DeadLetter(config="w", config_revision=2, revision=3, attempts=1, reason=f"{PRIVATE} said no")
    timeline = Timeline(
        [entry(asked, NOW), entry(webhook, NOW)],
        [entry(Step(epoch=1, name="fetch", result=Raw(encode({PRIVATE: {"state": PRIVATE}}))), NOW)],
        [artifact("a", PRIVATE, name=PRIVATE, description=PRIVATE, metadata={PRIVATE: 1}, extensions=(PRIVATE,))],
        [entry(dead, NOW), status(TaskState.FAILED, PRIVATE)],
    )
    # The id of a status message is made of its text here: ids stay.
    records = [replace(r, payload=r.payload.replace(f"status-{PRIVATE}".encode(), b"s1")) for r in timeline.records]
    header = records[0].header
    named = replace(header, writer=replace(header.writer, instance=f"gateway-{PRIVATE}"))
    return Bundle(REF, (replace(records[0], header=named), *records[1:]), Raw(encode({"description": PRIVATE})))


def test_what_anybody_wrote_anywhere_is_gone_with_the_content() -> None:
    whole = everywhere()
    assert write(whole).count(PRIVATE.encode()) > 30

    clean = redacted(whole, content=True)

    assert PRIVATE.encode() not in b"".join(record.payload for record in clean.records)
    assert TaskFold.of(read(write(clean)).records).head.state is TaskState.FAILED


def test_what_matches_a_pattern_is_gone_wherever_anybody_wrote_it() -> None:
    clean = redacted(everywhere(), patterns=[re.compile(r"[\w.]+@[\w.]+")])

    assert PRIVATE.encode() not in write(clean)
    assert TaskFold.of(read(write(clean)).records).head.state is TaskState.FAILED


def test_patterns_leave_what_the_protocol_reads() -> None:
    clean = redacted(CHUNKED, patterns=[re.compile(r"\w+")])

    assert TaskFold.of(read(write(clean)).records).head.phase is TaskFold.of(CHUNKED.records).head.phase
