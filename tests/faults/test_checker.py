"""The checker accepts what is right, and finds whatever is wrong: each mutator is a way to be wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import msgspec
import pytest
from msgspec.structs import replace

from a2a_events import limits
from faults import history as h
from faults.checker import Result
from faults.checker.__main__ import main
from faults.checker.findings import INVARIANTS
from tests.faults.book import SECOND, Book
from tests.faults.mutators import MUTATORS
from tests.faults.session import SUSPEND_SECONDS, play

PLACES = 3
"""At how many places each mutator is tried."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Book:
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SUSPEND_SECONDS", SUSPEND_SECONDS)
        asyncio.run(play(folder))
    return Book(folder)


def test_a_real_run_is_valid_and_judged_by_all_invariants(run: Book, tmp_path: Path) -> None:
    result = run.copy().judge(tmp_path / "valid")
    assert result.violations == []
    assert result.valid
    assert result.not_judged == {}
    assert result.counts["fenced"] == 1
    assert result.counts["redelivered"] > 0
    assert result.counts["resumed"] > 0
    assert result.counts["webhook calls repeated"] > 3
    assert result.counts["webhooks given up"] == 2
    assert result.faults["cut_worker"].bitten == 1
    assert {"leader", "worker"} <= result.recovery.keys()


@pytest.mark.parametrize("name", MUTATORS)
def test_whatever_is_wrong_is_found_under_its_invariant(run: Book, tmp_path: Path, name: str) -> None:
    invariant, mutate = MUTATORS[name]
    for seed in range(PLACES):
        book = run.copy()
        mutate(book, Random(f"{name} {seed}"))
        result = book.judge(tmp_path / str(seed))
        found = {violation.invariant for violation in result.violations}
        assert invariant in found, f"seed {seed}: {name} was not found; found were {sorted(found)}"
        assert not result.valid


def test_there_are_mutators_of_every_invariant() -> None:
    assert {invariant for invariant, _ in MUTATORS.values()} == set(INVARIANTS)
    assert len(MUTATORS) >= 30


def test_a_process_that_was_killed_leaves_what_nobody_can_know(run: Book, tmp_path: Path) -> None:
    book = run.copy()
    life = book.life("worker-1")
    last = book.lives[life].pop()
    assert isinstance(last.fact, h.Closed)
    offered = h.Append(task=book.tasks()[-1], record_id="lost", expected=1, revision=2, kinds="A", payload="x", epoch=1)
    book.lives[life].append(h.Event(last.at_ns, "worker-1", "invoke", 9999, offered))
    book.lines.append((life, b'{"t":1,"p":"worker-1","ph":"inv'))
    assert book.judge(tmp_path / "killed").violations == []


def test_what_an_indeterminate_append_did_may_stand_or_not(run: Book, tmp_path: Path) -> None:
    book = run.copy()
    place = book.end_of(book.appended(book.log[0]))
    book.put(place, replace(book.event(place), phase="info", fact=None, error="Uncertain"))
    assert book.judge(tmp_path / "stands").violations == []


def test_a_damaged_history_proves_nothing(run: Book, tmp_path: Path) -> None:
    book = run.copy()
    book.lines.append((book.life("driver"), b"{nonsense\n"))
    with pytest.raises(ValueError, match=r"driver.*jsonl:\d+"):
        book.judge(tmp_path / "damaged")


def test_kinds_of_later_versions_are_counted_and_break_nothing(run: Book, tmp_path: Path) -> None:
    book = run.copy()
    book.store(book.tasks()[0], "q", b'{"laterThing":{}}')
    result = book.judge(tmp_path / "later")
    assert result.violations == []
    assert result.counts["unknown events"] == 1


def test_a_fault_excuses_what_is_late_while_it_lasts(run: Book, tmp_path: Path) -> None:
    book = run.copy()
    place = book.find(h.StreamEnd, lambda end: end.how == "closed")[-1]
    event = book.event(place)
    book.put(place, replace(event, at_ns=event.at_ns + 30 * SECOND))
    assert [v.invariant for v in book.copy().judge(tmp_path / "late").violations] == ["I6"]
    fault = h.Fault(kind="gateway-paused", target="gateway-1")
    book.call("nemesis", event.at_ns - SECOND, fault, h.Bitten(evidence="stopped"), took_ns=25 * SECOND)
    assert book.judge(tmp_path / "excused").violations == []


def test_what_a_run_says_nothing_about_is_named(run: Book, tmp_path: Path) -> None:
    book = run.copy()
    book.servers = []
    for kind in (h.Webhook, h.Resources):
        for place in reversed(book.find(kind)):
            book.drop(place)
    for call in (h.SetWebhook, h.DeleteWebhook):
        for place in reversed(book.find(call)):
            book.drop(book.end_of(place))
            book.drop(place)
    for place in book.find(h.Send):
        book.alter(place, webhook="")
    result = book.judge(tmp_path / "less")
    assert result.not_judged.keys() == {"I11", "I14", "I15"}
    assert result.valid


def test_the_command_tells_the_story_of_each_violation(
    run: Book, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = run.copy()
    MUTATORS["forge_a_second_end"][1](book, Random(1))
    book.judge(tmp_path / "forged")
    assert main([str(tmp_path / "forged"), "close_seconds=20"]) == 1
    shown = capsys.readouterr().out
    result = msgspec.json.decode((tmp_path / "forged" / "result.json").read_bytes(), type=Result)
    violation = next(v for v in result.violations if v.invariant == "I2")
    assert violation.what in shown
    story = (tmp_path / "forged" / violation.timeline).read_text()
    assert violation.what in story
    assert '"op":"append"' in story
    assert "TASK_STATE" in story


def test_lost_records_are_told_apart_by_where_they_stood(run: Book, tmp_path: Path) -> None:
    def lost(where: str, records: slice) -> int:
        book = run.copy()
        del book.log[records]
        return book.judge(tmp_path / where).counts.get(f"lost {where}", 0)

    end = len(run.log)
    assert lost("prefix", slice(0, 5)) == 5
    assert lost("middle", slice(end // 2, end // 2 + 4)) == 4
    assert lost("postfix", slice(end - 3, end)) == 3
