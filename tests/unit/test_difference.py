from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec import json as msgspec_json

from a2a_events.model import TaskState
from a2a_events.timeline import render
from a2a_events.timeline.difference import Difference, difference
from a2a_events.timeline.events import PushConfigSet
from a2a_events.timeline.record import entry
from a2a_events.timeline.revisions import fold_at
from tests.unit.golden import every_timeline, records_of
from tests.unit.timeline_builders import NOW, TASK, Timeline, artifact, received, reply, status, submitted


def shown(made: Difference) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec_json.encode(made))
    return found


def between(timeline: Timeline, before: int, after: int) -> dict[str, Any]:
    return shown(difference(fold_at(timeline.records, before), fold_at(timeline.records, after)))


@pytest.fixture
def timeline() -> Timeline:
    return Timeline(
        [entry(submitted(), NOW)],
        [status(TaskState.WORKING)],
        [artifact("a", "one"), artifact("a", "two", append=True)],
        [artifact("b", "x", name="notes")],
        [status(TaskState.INPUT_REQUIRED, "which?")],
        [entry(received("m2"), NOW)],
        [artifact("a", "anew")],
    )


def test_a_status_is_shown_before_and_after(timeline: Timeline) -> None:
    status_ = between(timeline, 1, 2)["status"]
    assert status_["before"]["state"] == "TASK_STATE_SUBMITTED"
    assert status_["after"]["state"] == "TASK_STATE_WORKING"
    assert "status" not in between(timeline, 2, 3)


def test_from_nothing_everything_is_new(timeline: Timeline) -> None:
    all_ = between(timeline, 0, 2)
    assert list(all_["status"]) == ["after"]
    assert [message["messageId"] for message in all_["history"]] == ["m1"]


def test_an_artifact_is_added_extended_or_replaced(timeline: Timeline) -> None:
    def artifacts(before: int, after: int) -> list[tuple[str, str, list[str]]]:
        return [
            (a["artifactId"], a["change"], [p["text"] for p in a["parts"]])
            for a in between(timeline, before, after).get("artifacts", [])
        ]

    assert artifacts(2, 3) == [("a", "added", ["one"])]
    assert artifacts(3, 4) == [("a", "extended", ["two"])]
    assert artifacts(2, 5) == [("a", "added", ["one", "two"]), ("b", "added", ["x"])]
    assert artifacts(7, 8) == [("a", "replaced", ["anew"])]
    assert artifacts(5, 7) == []
    assert between(timeline, 4, 5)["artifacts"][0]["members"] == {"name": "notes"}


def test_a_history_grows(timeline: Timeline) -> None:
    said = [message["messageId"] for message in between(timeline, 6, 7)["history"]]
    assert said == ["status-which?", "m2"]


def test_a_bare_reply_is_shown() -> None:
    timeline = Timeline([entry(submitted(replies="either"), NOW)], [reply("r1")])
    assert between(timeline, 1, 2)["reply"]["messageId"] == "r1"


def test_what_the_turn_protocol_knows_is_shown_and_no_secret() -> None:
    webhook = PushConfigSet(id="w", url="https://example.org/", sealed="secret")
    timeline = Timeline([entry(submitted(), NOW)], [entry(webhook, NOW)])
    internal = between(timeline, 1, 2)["internal"]
    assert internal["webhooks"]["after"][0]["url"] == "https://example.org/"
    assert "secret" not in json.dumps(internal)
    assert "phase" not in internal


def test_the_later_one_comes_second(timeline: Timeline) -> None:
    with pytest.raises(ValueError, match="does not come before"):
        difference(fold_at(timeline.records, 3), fold_at(timeline.records, 2))


@every_timeline
def test_differences_add_up_to_the_task(path: Path) -> None:
    """Status, history and artifacts that are put together from the differences are those of the Task."""
    records = records_of(path)
    newest = records[-1].header.last_revision
    status_: Any = None
    history: list[Any] = []
    artifacts: dict[str, Any] = {}
    for before, after in pairwise(range(newest + 1)):
        step = shown(difference(fold_at(records, before), fold_at(records, after)))
        status_ = step.get("status", {}).get("after", status_)
        if step.get("forked"):
            history = []
        history += step.get("history", [])
        for one in step.get("artifacts", []):
            if one["change"] != "extended":
                artifacts[one["artifactId"]] = {"artifactId": one["artifactId"], "parts": []}
            artifacts[one["artifactId"]]["parts"] += one["parts"]
            artifacts[one["artifactId"]] |= one.get("members", {})

    task = json.loads(render.task(fold_at(records, newest), TASK, {}))
    assert status_ == task["status"]
    assert history == task.get("history", [])
    assert list(artifacts.values()) == task.get("artifacts", [])
