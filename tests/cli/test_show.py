from __future__ import annotations

import json
import sys

import pytest

from a2a_events.cli.show import JsonLines, Terminal
from a2a_events.cli.text import clean, text_of
from a2a_events.model import (
    Artifact,
    Message,
    Part,
    Role,
    StreamResponse,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)


def status(state: TaskState, said: str = "") -> StreamResponse:
    message = Message(message_id="m", role=Role.AGENT, parts=(Part(text=said),)) if said else None
    changed = TaskStatusUpdateEvent(task_id="t", context_id="c", status=TaskStatus(state=state, message=message))
    return StreamResponse(status_update=changed)


def chunk(text: str, artifact: str = "a", *, append: bool = False) -> StreamResponse:
    part = Artifact(artifact_id=artifact, parts=(Part(text=text),))
    changed = TaskArtifactUpdateEvent(task_id="t", context_id="c", artifact=part, append=append)
    return StreamResponse(artifact_update=changed)


def test_chunks_are_running_text_and_states_have_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Terminal()
    submitted = Task(id="t", context_id="c", status=TaskStatus(state=TaskState.SUBMITTED))
    story = [
        StreamResponse(task=submitted),
        status(TaskState.WORKING),
        chunk("Once "),
        chunk("upon", append=True),
        chunk("other", "b"),
        chunk(" a time", append=True),
        status(TaskState.FAILED, "no end"),
    ]
    for response in story:
        screen.show(response, None)
    screen.close()
    assert capsys.readouterr().out.splitlines() == [
        "task t",
        "submitted",
        "working",
        "artifact a",
        "Once upon",
        "artifact b",
        "other",
        "artifact a",
        " a time",
        "failed",
        "no end",
    ]


def test_json_lines_are_updates_with_the_cursor_beside(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    JsonLines().show(status(TaskState.COMPLETED), '1.main."0"')
    JsonLines().show(chunk("a\nb"), None)
    first, second = capfdbinary.readouterr().out.splitlines()
    assert json.loads(first)["cursor"] == '1.main."0"'
    assert json.loads(first)["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
    assert set(json.loads(second)) == {"artifactUpdate"}


def test_an_agent_cannot_control_the_terminal() -> None:
    everything = "".join(chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF)
    shown = clean(everything)
    assert len(shown) == len(everything)
    assert all(c.isprintable() or c in "\n\t" for c in shown)


def test_escape_sequences_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Terminal()
    screen.show(chunk("\x1b]0;title\x07\x1b[2Jgone"), None)
    screen.show(status(TaskState.FAILED, "\x1b[31mred"), None)
    screen.close()
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        (Part(text="hello"), "hello"),
        (Part(raw=b"1234", filename="a.bin"), "[a.bin, 4 B]\n"),
        (Part(url="https://x.example/a"), "[https://x.example/a]\n"),
        (Part(data={"a": [1]}), '{"a":[1]}\n'),
        (Part(data=None), "null\n"),
    ],
)
def test_every_kind_of_part_is_shown(part: Part, shown: str) -> None:
    assert text_of(part) == shown
