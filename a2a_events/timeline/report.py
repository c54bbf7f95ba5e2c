"""A timeline as a Markdown report that can be pasted into an issue.

What clients and agents wrote stands as code, or is written as character references, so that it makes no markup, no
link and no mention of anybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

import msgspec

from a2a_events import limits
from a2a_events.model import Message, TaskState, timestamp_of
from a2a_events.timeline.drawing import sequence, shortened
from a2a_events.timeline.events import Submitted, TurnClaimed
from a2a_events.timeline.fold import TaskFold
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record
from a2a_events.timeline.rows import Row, Run, compact, ends, rows_of


def report(task: TaskRef, records: Sequence[Record], rows: Iterable[Row | Run] | None = None) -> str:
    """Facts, the final status, a table of rows, and the diagram of ``drawing``.

    Args:
        task: whose timeline it is.
        records: of the task, from its beginning; at least one.
        rows: what the table and the diagram show; default: every event, with runs of chunks as one row. Of many, the
            first and the last.

    Raises:
        Unreadable: a record is damaged, or needs a newer version of this software.
    """
    every = [row for record in records for row in rows_of(record)]
    shown = list(compact(every) if rows is None else rows)
    fold = TaskFold.of(records)
    sections = [
        f"## Task {code(task.task_id)}",
        _facts(task, records, every, fold),
        f"### {'Final status' if fold.head.terminal else 'Status so far'}",
        _status(fold),
        "### Timeline",
        _table(shown),
        "### Diagram",
        f"```mermaid\n{sequence(shown)}```",
    ]
    return "\n\n".join(sections) + "\n"


def code(text: str) -> str:
    """Text as code on one line, in a table's cell or elsewhere, cut at ``limits.DRAWN_CHARACTERS`` as it is written."""
    shown = "".join(c if c.isprintable() else "�" for c in text)
    if not shown.strip():
        return ""
    if not re.search(r"[`|\\]", shown):
        return f"`{shortened(shown, limits.DRAWN_CHARACTERS)}`"
    # A table cuts its cells before it looks for code, so these need another form.
    references = (c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in shown)
    return f"<code>{shortened(references, limits.DRAWN_CHARACTERS)}</code>"


def block(text: str) -> str:
    """Text of any length and any lines as a block of code."""
    shown = "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`+", shown))])
    return f"{fence}text\n{shown}\n{fence}"


def _facts(task: TaskRef, records: Sequence[Record], rows: list[Row], fold: TaskFold) -> str:
    header = records[0].header
    begun, ended = header.times[0], records[-1].header.times[-1]
    claims = [event for record in records for event in record.events() if isinstance(event, TurnClaimed)]
    states = [TaskState.SUBMITTED.name, *(row.state for row in rows if row.state)]
    workers = dict.fromkeys(row.writer for row in rows if row.attempt)
    agent = f"{task.agent} {fold.head.agent_version}".strip()
    facts = {
        "agent": code(agent),
        "context": code(fold.head.context_id),
        "states": " → ".join(state for state, _ in groupby(states)),
        "phase": fold.head.phase.value,
        "attempts": _attempts(claims),
        "written by": ", ".join(code(writer) for writer in workers) or "no worker",
        "begun": timestamp_of(begun),
        "lasted": f"{(ended - begun) / 1000:.3f} s",
        "size": f"{len(rows)} events in {len(records)} records, {sum(len(record.payload) for record in records)} B",
    }
    first = records[0].events()[0]
    if isinstance(first, Submitted) and bytes(first.origin):
        facts["origin"] = code(bytes(first.origin).decode(errors="replace"))
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())])


def _attempts(claims: list[TurnClaimed]) -> str:
    if not claims:
        return "none: no worker has claimed it"
    return f"{claims[-1].attempt} at the last turn, policy {code(claims[-1].policy)}; {len(claims)} claims in all"


def _status(fold: TaskFold) -> str:
    if fold.content.reply:
        return _said("the agent answered with a bare message", fold.content.reply)
    status = fold.content.status
    return _said(f"{status.state.name} {status.timestamp}".rstrip(), bytes(status.message))


def _said(what: str, message: bytes) -> str:
    if not message:
        return what
    parts = msgspec.json.decode(message, type=Message).parts
    said = "\n".join(part.text if isinstance(part.text, str) else "[a part that is no text]" for part in parts)
    return f"{what}\n\n{block(shortened(said, limits.REPORTED_CHARACTERS))}"


def _table(rows: list[Row | Run]) -> str:
    lines = ["| revision | time | kind | writer | attempt | summary |", "|---:|---|---|---|---:|---|"]
    for row in ends(rows, limits.DRAWN_ROWS):
        if isinstance(row, int):
            lines.append(f"| … | | | | | {row} more rows |")
            continue
        number = f"{row.revision}–{row.last_revision}" if isinstance(row, Run) else str(row.revision)
        summary = code(row.summary)
        attempt = str(row.attempt) if row.attempt else ""
        lines.append(f"| {number} | {row.time} | {code(row.kind)} | {code(row.writer)} | {attempt} | {summary} |")
    return "\n".join(lines)
