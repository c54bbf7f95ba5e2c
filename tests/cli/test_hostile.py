"""What agents and clients wrote does nothing but be shown: on terminals, in Markdown and in diagrams."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from msgspec import Raw

from a2a_events.cli import source
from a2a_events.model import Artifact, Message, Part, Role, TaskState, encode
from a2a_events.timeline.bundle import Bundle, write
from a2a_events.timeline.events import Actor, PushConfigSet, Step, Submitted, TurnClaimed, TurnEnded
from a2a_events.timeline.record import entry
from a2a_events.timeline.render import artifact_entry
from tests.cli.commands import run_here
from tests.cli.terminal import terminal
from tests.unit.timeline_builders import CONTEXT, NOW, REF, TASK, Timeline, status

HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m red",
    "\u202erevo\u2066 \u200f",
    "a | b | c",
    "a \\| b",
    "`code` ``` fence",
    "\n```\n# heading\n\n<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "**bold** _it_ [link](https://evil.example) ![i](https://evil.example/i.png)",
    "https://evil.example @everyone #1",
    "%%{init: {'theme': 'dark'}}%%",
    "x\r\nparticipant evil\nevil->>p0: hi",
    "end; p0->>p1: hi #35;",
    "ﬂ°°60¶ßscriptﬂ°°62¶ß $$x^2$$",
    "&lt;&#60; \u2028\u0085 \t tab",
]
EVERYTHING = " ".join(HOSTILE)


def message(text: str, role: Role) -> Raw:
    said = Message(message_id=text, role=role, parts=(Part(text=text),), context_id=CONTEXT, task_id=TASK)
    return Raw(encode(said))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bundle in which everything that others may write is hostile."""
    timeline = Timeline()
    actor = Actor(subject=EVERYTHING, tenant=EVERYTHING)
    for text in HOSTILE:
        asked = Submitted(context_id=text, message=message(text, Role.USER), owner=actor, actor=actor)
        if not timeline.records:
            timeline.add(entry(asked, NOW))
            timeline.add(entry(TurnClaimed(epoch=1, lease=3, policy="resume", agent_version=EVERYTHING), NOW))
        made = Artifact(artifact_id=text, name=text, description=text, parts=(Part(text=text), Part(url=text)))
        timeline.add(
            entry(PushConfigSet(id=text, url=text, actor=actor), NOW),
            entry(Step(epoch=1, name=text, result=Raw(encode(Part(text=text)))), NOW),
            artifact_entry(TASK, CONTEXT, made, NOW, append=False, last_chunk=False),
            artifact_entry(TASK, CONTEXT, made, NOW, append=True, last_chunk=False),
            epoch=1,
        )
    ended = entry(TurnEnded(epoch=1, handled=3, reason=EVERYTHING), NOW)
    timeline.add(ended, status(TaskState.FAILED, EVERYTHING), epoch=1)
    path = tmp_path / "hostile"
    path.write_bytes(write(Bundle(REF, tuple(timeline.records))))
    monkeypatch.setattr(source, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setenv("TERM", "dumb")
    return str(path)


@pytest.mark.parametrize(
    "arguments",
    [
        ("timeline", "{}"),
        ("timeline", "{}", "--compact"),
        ("timeline", "{}", "-o", "json"),
        ("timeline", "{}", "-o", "ndjson"),
        ("timeline", "{}", "-o", "mermaid"),
        ("timeline", "{}", "-o", "markdown"),
        ("show", "{}", "--internal"),
        ("show", "{}", "--internal", "-o", "json"),
        ("diff", "{}", "0", "5"),
        ("diff", "{}", "0", "5", "-o", "json"),
    ],
    ids=" ".join,
)
def test_nothing_reaches_the_terminal_that_could_control_it(arguments: tuple[str, ...], file: str) -> None:
    with terminal() as shown:
        assert run_here(*(one.format(file) for one in arguments)) == 0
    assert "owned" in shown.text
    assert {c for c in shown.text if not c.isprintable()} <= {"\n", "\t"}


def test_json_on_a_terminal_is_still_what_was_written(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("show", file) == 0
    piped = json.loads(capsys.readouterr().out)
    with terminal() as shown:
        assert run_here("show", file, "-o", "json") == 0
    assert json.loads(shown.text) == piped
    assert [artifact["name"] for artifact in piped["artifacts"]] == HOSTILE


def test_nobody_s_text_begins_a_line_of_ours(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("show", file, "-o", "text") == 0
    first = {line.split(" ", 1)[0] for line in capsys.readouterr().out.splitlines()}
    assert first == {"", "task", "revision", "agent", "FAILED", "history", "artifact"}


def test_a_report_has_no_markup_but_its_own(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("timeline", file, "-o", "markdown") == 0
    out = capsys.readouterr().out
    tokens = MarkdownIt("commonmark").enable("table").parse(out)
    inline = [child for token in tokens if token.type == "inline" for child in token.children or ()]
    assert {child.type for child in inline} <= {"text", "code_inline", "html_inline", "softbreak"}
    assert {child.content for child in inline if child.type == "html_inline"} == {"<code>", "</code>"}
    headings = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings == [f"Task `{TASK}`", "Final status", "Timeline", "Diagram"]
    assert {line.count("|") for line in out.splitlines() if line.startswith("|")} == {3, 7}  # of facts, of rows
    outside, code = [], False
    for child in inline:
        code = child.content == "<code>" if child.type == "html_inline" else code
        if child.type == "text" and not code:
            outside.append(child.content)
    assert not re.search("evil|everyone|owned|alert|script", " ".join(outside))


def test_a_diagram_has_no_statement_but_its_own(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("timeline", file, "-o", "mermaid") == 0
    first, *lines = capsys.readouterr().out.splitlines()
    text = r"([^\x00-\x7f]|[A-Za-z0-9 .,:_+/()='!?-]|#\d+;)*"
    statement = re.compile(
        rf"    (((actor|participant) p\d as {text})|((de)?activate p\d)"
        rf"|((p\d-(>>|x)p\d|Note over p\d): {text}))"
    )
    assert first == "sequenceDiagram"
    assert [line for line in lines if not statement.fullmatch(line)] == []
    assert not re.search("[ﬂ°¶ß]", "".join(lines))  # what Mermaid itself puts around references
    assert sum(line.strip().startswith("participant") for line in lines) == 3
