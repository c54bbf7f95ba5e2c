"""A timeline as a Mermaid sequence diagram: who said what to whom, in the order of the log.

What clients and agents wrote cannot become part of the diagram's syntax: all but letters, digits and a few marks is
written as character references.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from a2a_events import limits
from a2a_events.model import milliseconds_of
from a2a_events.timeline.events import MEMBERS, Kind
from a2a_events.timeline.rows import Row, Run, ends

CLIENT: Final = "client"
OUTPUT: Final = "agent output"
WEBHOOK: Final = "webhook"

_ASKED: Final = {MEMBERS[kind] for kind in (Kind.SUBMITTED, Kind.MESSAGE_RECEIVED, Kind.CANCEL_REQUESTED)}
_SAID: Final = {MEMBERS[kind] for kind in (Kind.ARTIFACT, Kind.REPLY)}
_HOOKED: Final = {MEMBERS[kind] for kind in (Kind.PUSH_CONFIG_SET, Kind.PUSH_CONFIG_DELETED)}
_DONE: Final = {MEMBERS[kind] for kind in (Kind.STEP, Kind.TIMER)}
_LEFT: Final = {MEMBERS[kind] for kind in (Kind.TURN_ENDED, Kind.TURN_RELEASED, Kind.TURN_SUSPENDED)}
_STATUS: Final = MEMBERS[Kind.STATUS]
_CLAIMED: Final = MEMBERS[Kind.TURN_CLAIMED]
_DEAD_LETTER: Final = MEMBERS[Kind.DEAD_LETTER]
_PLAIN: Final = frozenset(" .,:_-+/()='!?")
_UNMARKED: Final = frozenset("ﬂ°¶ß")
"""Mermaid writes character references with these inside, and would read them back as such."""


def sequence(rows: Iterable[Row | Run]) -> str:
    """The diagram: the client, the processes that wrote, the agent's output and webhooks, with a bar for each attempt.

    Args:
        rows: of one timeline, in order, best after ``rows.compact``. Of many, the first and the last are drawn.
    """
    drawn = ends(rows, limits.DRAWN_ROWS)
    drawing = _Drawing([row for row in drawn if not isinstance(row, int)])
    for row in drawn:
        if isinstance(row, int):
            drawing.gap(row)
        else:
            drawing.row(row)
    return drawing.text()


class _Drawing:
    def __init__(self, rows: list[Row | Run]) -> None:
        self._begun = milliseconds_of(rows[0].time) if rows else 0
        writers = list(dict.fromkeys(row.writer for row in rows))
        gateways = [writer for writer in writers if writer.startswith("gateway/")]
        kinds = {row.kind for row in rows}
        names = [CLIENT, *gateways, *(writer for writer in writers if writer not in gateways)]
        names += [OUTPUT] if kinds & _SAID else []
        names += [WEBHOOK] if kinds & (_HOOKED | {_DEAD_LETTER}) else []
        self._names = {name: f"p{number}" for number, name in enumerate(names)}
        self._active = ""
        self._lines = ["sequenceDiagram"]
        for name, short in self._names.items():
            kind = "actor" if name == CLIENT else "participant"
            self._lines.append(f"    {kind} {short} as {escaped(name.replace('/', ' ', 1))}")

    def row(self, row: Row | Run) -> None:
        writer, kind = self._names[row.writer], row.kind
        if kind in _ASKED:
            self._say(f"{self._names[CLIENT]}->>{writer}", row)
        elif kind == _STATUS:
            self._say(f"{writer}->>{self._names[CLIENT]}", row)
        elif kind in _SAID:
            self._say(f"{writer}->>{self._names[OUTPUT]}", row)
        elif kind in _HOOKED:
            self._say(f"{writer}->>{self._names[WEBHOOK]}", row)
        elif kind == _DEAD_LETTER:
            self._say(f"{writer}-x{self._names[WEBHOOK]}", row)
        elif kind in _DONE:
            self._say(f"{writer}->>{writer}", row)
        else:
            if kind == _CLAIMED:
                self._leave()
                self._active = writer
                self._lines.append(f"    activate {writer}")
            self._say(f"Note over {writer}", row)
            if kind in _LEFT:
                self._leave()

    def gap(self, count: int) -> None:
        self._lines.append(f"    Note over {','.join(list(self._names.values())[:2])}: … {count} more rows …")

    def text(self) -> str:
        self._leave()
        return "\n".join(self._lines) + "\n"

    def _leave(self) -> None:
        if self._active:
            self._lines.append(f"    deactivate {self._active}")
            self._active = ""

    def _say(self, arrow: str, row: Row | Run) -> None:
        number = f"{row.revision}-{row.last_revision}" if isinstance(row, Run) else str(row.revision)
        after = (milliseconds_of(row.time) - self._begun) / 1000
        what = "" if row.kind == _STATUS else f"{row.kind} "
        self._lines.append(f"    {arrow}: {number} (+{after:.3f} s) {escaped(f'{what}{row.summary}'.strip())}")


def shortened(pieces: Iterable[str], most: int) -> str:
    """The pieces as one text, or as many of them as fit into so many characters and a mark."""
    text = ""
    for piece in pieces:
        if len(text) + len(piece) > most:
            return f"{text}…"
        text += piece
    return text


def escaped(text: str) -> str:
    """Text that Mermaid shows as it is, on one line; what would control a terminal or turn its direction is �.

    It is cut at ``limits.DRAWN_CHARACTERS``, as it is written.
    """
    return shortened(map(_escaped, text), limits.DRAWN_CHARACTERS)


def _escaped(c: str) -> str:
    if not c.isprintable():
        return "�"
    plain = c in _PLAIN or c.isalnum() if c.isascii() else c not in _UNMARKED
    return c if plain else f"#{ord(c)};"
