"""Hypothesis strategies for timelines whose content is richer than their course: for fold, render and snapshot.

Content is drawn from small pools: how objects are written is the model's business, and drawing them is slow.
"""

from __future__ import annotations

from hypothesis import strategies as st
from msgspec import Raw

from a2a_events.model import TERMINAL_STATES, Artifact, Message, Part, Role, TaskState, encode
from a2a_events.timeline.events import NOTHING, CancelRequested, Kind, TurnClaimed, TurnEnded, TurnNudged
from a2a_events.timeline.record import Entry, Record, entry
from a2a_events.timeline.render import artifact_entry, status_entry
from tests.unit.timeline_builders import ALICE, CONTEXT, NOW, TASK, Timeline, kept, received, submitted

LIVING = [state for state in TaskState if state not in TERMINAL_STATES]
ENDINGS = [state for state in TaskState if state in TERMINAL_STATES]
PARTS = [
    Part(text=""),
    Part(text='],"parts":[{\n\u2028"é', media_type="text/plain"),
    Part(raw=b"\x00\xff", filename="a.bin"),
    Part(url="https://example.com/?a,b", metadata={"k_k": None}),
    Part(data=None),
    Part(data={"a": [1, {"b": "]"}], "": 1.5}),
]

parts = st.lists(st.sampled_from(PARTS), max_size=3).map(tuple)
titles = st.sampled_from(["", "n", 'ü"\\'])
tags = st.sampled_from([(), ("x",), ("x", "y")])
metadata = st.sampled_from([None, {}, {"k": 1}, {"k": 2, "l": None}, {"m": {"n": [True]}}])
messages = st.builds(
    Message,
    message_id=titles,
    role=st.just(Role.AGENT),
    parts=parts,
    context_id=st.just(CONTEXT),
    metadata=st.sampled_from([None, {"k": 1}]),
)
artifacts = st.builds(
    Artifact,
    artifact_id=st.sampled_from(["a", "b", "ü\n"]),
    parts=parts,
    name=titles,
    description=titles,
    metadata=metadata,
    extensions=tags,
)


def status_entries(states: list[TaskState]) -> st.SearchStrategy[Entry]:
    said = st.just(NOTHING) | messages.map(lambda message: Raw(encode(message)))
    noted = st.just(NOTHING) | metadata.map(lambda members: Raw(encode(members)) if members else NOTHING)
    return st.builds(status_entry, st.just(TASK), st.just(CONTEXT), st.sampled_from(states), st.just(NOW), said, noted)


artifact_entries = st.builds(
    artifact_entry,
    st.just(TASK),
    st.just(CONTEXT),
    artifacts,
    st.just(NOW),
    append=st.booleans(),
    last_chunk=st.booleans(),
)
internal = [
    *[entry(TurnClaimed(epoch=epoch, lease=3), NOW) for epoch in (1, 2)],
    entry(TurnEnded(epoch=1, handled=3), NOW),
    kept(Kind.DELIVERY_ATTEMPT),
]
outward = status_entries(LIVING) | artifact_entries | artifact_entries | st.sampled_from(internal)
inward = st.sampled_from(
    [
        entry(received("m2"), NOW),
        entry(received("ü\n"), NOW + 1),
        entry(CancelRequested(actor=ALICE), NOW),
        entry(TurnNudged(epoch=1), NOW),
    ]
)


@st.composite
def timelines(draw: st.DrawFn) -> list[Record]:
    """A task's records, the terminal one last if there is one."""
    timeline = Timeline([entry(submitted(), NOW)])
    for entries in draw(st.lists(inward.map(lambda e: [e]) | st.lists(outward, min_size=1, max_size=3), max_size=6)):
        timeline.add(*entries)
    ending = draw(st.none() | status_entries(ENDINGS))
    if ending is not None:
        timeline.add(ending)
    return timeline.records
