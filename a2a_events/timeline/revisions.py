"""A timeline cut at any revision, also within a record.

Writers judge a task at the end of a record only (``fold``); who looks back wants to see every event by itself. So a
record is taken apart into one for each event. What is folded of them within a record was never there for a writer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from a2a_events.timeline.fold import TaskFold
from a2a_events.timeline.record import Record, visible


def part(record: Record, first: int, last: int) -> Record:
    """The events of a record from one revision to another, both included, as if they had been written by themselves.

    Raises:
        Unreadable: later, when it is folded, if the record is damaged.
    """
    header = record.header
    begin, end = first - header.revision, last - header.revision + 1
    kinds = header.kinds[begin:end]
    sliced = msgspec.structs.replace(
        header,
        revision=first,
        kinds=kinds,
        generation=header.generation + visible(header.kinds[:begin]),
        times=header.times[begin:end],
    )
    return msgspec.structs.replace(record, header=sliced, payload=b"\n".join(record.lines()[begin:end]))


def up_to(records: Iterable[Record], revision: int) -> Iterator[Record]:
    """The records that hold the events up to a revision; of the last one no more than that."""
    for record in records:
        if record.header.revision > revision:
            return
        if record.header.last_revision > revision:
            yield part(record, record.header.revision, revision)
            return
        yield record


def fold_at(records: Iterable[Record], revision: int) -> TaskFold:
    """The fold of a timeline's first events, up to this revision.

    Args:
        records: of one task, from its beginning.
        revision: the last one to take in; beyond the end of the timeline it is the end that counts.

    Raises:
        Unreadable: a record is damaged, or needs a newer version of this software.
    """
    return TaskFold.of(up_to(records, revision))
