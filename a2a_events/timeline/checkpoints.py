"""Folds of one growing timeline at any revision, for who looks at many of them.

Each costs the events since the last checkpoint, not those since the beginning.
"""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from a2a_events import limits
from a2a_events.timeline.fold import Pieces, TaskFold
from a2a_events.timeline.record import Record
from a2a_events.timeline.revisions import part


class Checkpoints:
    """Checkpoints of one timeline, made as it is folded.

    Args:
        records: of one task, from its beginning; may grow at its end.
        every_events: how far they are apart, at least.
    """

    def __init__(self, records: Sequence[Record], every_events: int = limits.CHECKPOINT_EVENTS) -> None:
        self._records = records
        self._every_events = every_events
        self._revisions: list[int] = []
        self._kept: list[tuple[int, TaskFold]] = []
        """How many records each took in, and the fold; they hold the same bytes of content, each once."""

    def at(self, revision: int) -> TaskFold:
        """As ``revisions.fold_at``; the caller may change what it gets.

        Raises:
            Unreadable: a record is damaged, or needs a newer version of this software.
        """
        which = bisect_right(self._revisions, revision) - 1
        done, fold = (0, TaskFold.empty()) if which < 0 else self._kept[which]
        fold = copied(fold)
        for number in range(done, len(self._records)):
            record = self._records[number]
            header = record.header
            if header.last_revision > revision:
                if header.revision <= revision:
                    fold.apply(part(record, header.revision, revision))
                break
            fold.apply(record)
            newest = self._revisions[-1] if self._revisions else 0
            if header.last_revision - newest >= self._every_events:
                self._revisions.append(header.last_revision)
                self._kept.append((number + 1, copied(fold)))
        return fold


def copied(fold: TaskFold) -> TaskFold:
    """A fold of its own, to go on from; content that both have is held once.

    Raises:
        Unreadable: a record that was folded is damaged.
    """
    content = copy.copy(fold.content)
    content.history = _pieces(content.history)
    content.artifacts = {
        name: msgspec.structs.replace(artifact, parts=_pieces(artifact.parts))
        for name, artifact in content.artifacts.items()
    }
    return TaskFold(copy.copy(fold.head), content)


def _pieces(pieces: Pieces) -> Pieces:
    return msgspec.structs.replace(pieces, segments=list(pieces.segments), tail=list(pieces.tail))
