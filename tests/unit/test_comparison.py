"""Where two runs first differ."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_events.timeline.comparison import Compared, Tolerance, compared, merged
from a2a_events.timeline.recorded import Said

EXACT = Tolerance()


def chunk(artifact_id: str, *parts: Any, append: bool = True, **more: Any) -> Said:
    made = [{"text": part} if isinstance(part, str) else {"data": part} for part in parts]
    artifact = {"artifactId": artifact_id, "parts": made, **more}
    return Said("artifactUpdate", {"artifact": artifact, **({"append": True} if append else {})}, revision=7)


def status(state: str, text: str = "", time: str = "") -> Said:
    message = {"message": {"messageId": time, "parts": [{"text": text}]}} if text else {}
    return Said("statusUpdate", {"status": {"state": state, **message, "timestamp": time}}, revision=8)


def path(recorded: list[Said], new: list[Said], tolerance: Tolerance = EXACT, *, cut: bool = False) -> str | None:
    divergence = compared(recorded, new, tolerance, cut=cut).divergence
    return None if divergence is None else divergence.path


texts = st.lists(st.sampled_from(["a", "b", "ab", " ", "ü"]), min_size=1, max_size=6)
runs = st.lists(
    st.one_of(
        st.builds(lambda name, parts: chunk(name, *parts), st.sampled_from(["x", "y"]), texts),
        st.builds(status, st.sampled_from(["WORKING", "COMPLETED"]), st.sampled_from(["", "said"])),
    ),
    max_size=8,
)


@given(runs, st.booleans(), st.booleans())
def test_a_run_does_not_differ_from_itself(run: list[Said], merge: bool, cut: bool) -> None:
    assert compared(run, run, Tolerance(merge_chunks=merge), cut=cut).divergence is None


@given(runs, runs)
def test_what_differs_is_found_at_the_first_event_that_differs(run: list[Said], other: list[Said]) -> None:
    equal = next((n for n, pair in enumerate(zip(run, other, strict=False)) if pair[0] != pair[1]), None)
    length = min(len(run), len(other))
    result = compared(run, other, EXACT, cut=False)

    assert (result.divergence is None) == (run == other)
    assert result.equal == (length if equal is None else equal)


@given(runs, st.integers(0, 8), st.booleans())
def test_a_run_that_goes_on_after_the_record_was_cut_does_not_differ(run: list[Said], at: int, merge: bool) -> None:
    assert compared(run[:at], run, Tolerance(merge_chunks=merge), cut=True).divergence is None


@given(texts, st.data())
def test_merged_chunks_do_not_show_where_they_were_cut(pieces: list[str], data: st.DataObject) -> None:
    whole = "".join(pieces)
    at = data.draw(st.integers(0, len(whole)))
    other = [chunk("x", piece) for piece in (whole[:at], whole[at:]) if piece]

    assert path([chunk("x", piece) for piece in pieces], other, Tolerance(merge_chunks=True)) is None
    assert path([chunk("x", whole)], [chunk("x", whole + "!")], Tolerance(merge_chunks=True)) == "artifact.parts.0.text"


def test_a_whole_artifact_replaces_its_chunks() -> None:
    (one,) = merged([chunk("x", "a"), chunk("x", "b"), chunk("x", "c", append=False), chunk("x", "d")])
    assert [{"text": "cd"}] == one.event["artifact"]["parts"]


def test_the_difference_shows_both_events_and_the_way_to_it() -> None:
    result = compared([status("W"), chunk("x", "a")], [status("W"), chunk("x", "b")], EXACT, cut=False)

    assert result.divergence is not None
    assert (1, 7, "artifact.parts.0.text") == (result.equal, result.divergence.revision, result.divergence.path)
    assert {"artifactUpdate": chunk("x", "a").event} == result.divergence.recorded
    assert {"artifactUpdate": chunk("x", "b").event} == result.divergence.new


def test_a_run_that_says_less_or_more_differs() -> None:
    less = compared([status("W"), chunk("x", "a")], [status("W")], EXACT, cut=False)
    more = compared([status("W")], [status("W"), chunk("x", "a")], EXACT, cut=False)

    assert less.divergence is not None
    assert (7, None) == (less.divergence.revision, less.divergence.new)
    assert more.divergence is not None
    assert (8, None) == (more.divergence.revision, more.divergence.recorded)


def test_times_and_message_ids_mean_nothing() -> None:
    assert path([status("W", "hi", "t1")], [status("W", "hi", "t2")]) is None


RANDOM, OTHER, THIRD = "iD_aaaaaaaaaaaaaaaa1", "iD_bbbbbbbbbbbbbbbb2", "9f0c2c8e-53a1-4c4e-8f2c-0d5f1a2b3c4d"


def test_random_ids_of_artifacts_are_matched_one_to_one() -> None:
    run = [chunk(RANDOM, "a"), chunk(OTHER, "b"), chunk(RANDOM, "c")]

    assert path(run, [chunk(THIRD, "a"), chunk(RANDOM, "b"), chunk(THIRD, "c")]) is None
    assert path(run, [chunk(THIRD, "a"), chunk(THIRD, "b"), chunk(THIRD, "c")]) == "artifact.artifactId"
    assert path(run, [chunk(THIRD, "a"), chunk(OTHER, "b"), chunk(OTHER, "c")]) == "artifact.artifactId"


def test_a_random_id_is_known_where_it_is_mentioned() -> None:
    run = [chunk(RANDOM, "a"), status("C", f"made {RANDOM}")]

    assert path(run, [chunk(OTHER, "a"), status("C", f"made {OTHER}")]) is None
    assert path(run, [chunk(OTHER, "a"), status("C", f"made {THIRD}")]) == "status.message.parts.0.text"


def test_an_id_that_somebody_chose_is_compared() -> None:
    assert path([chunk("draft", "a")], [chunk("summary", "a")]) == "artifact.artifactId"


@pytest.mark.parametrize(
    ("ignored", "differs"),
    [
        ("artifact.metadata.latency", None),
        ("artifactUpdate.artifact.metadata.latency", None),
        ("artifact.metadata", None),
        ("artifact.*.latency", None),
        ("artifact.metadata.*", None),
        ("statusUpdate.artifact.metadata.latency", "artifact.metadata.latency"),
        ("metadata.latency", "artifact.metadata.latency"),
        ("artifact.metadata.late", "artifact.metadata.latency"),
    ],
)
def test_an_ignored_path_names_a_place_and_what_is_below_it(ignored: str, differs: str | None) -> None:
    recorded, new = (chunk("x", "a", metadata={"latency": latency}) for latency in (1, 2))
    assert path([recorded], [new], Tolerance(ignore=(ignored,))) == differs


def test_a_member_that_is_not_there_differs_unless_it_is_ignored() -> None:
    recorded, new = chunk("x", "a", metadata={"cost": 1}), chunk("x", "a", metadata={})

    assert path([recorded], [new]) == path([new], [recorded]) == "artifact.metadata.cost"
    assert path([new], [recorded], Tolerance(ignore=("artifact.metadata.cost",))) is None


@pytest.mark.parametrize("pair", [(1, True), (0, None), ("1", 1), ([], {}), (1, 1.5)])
def test_values_of_different_types_differ(pair: tuple[Any, Any]) -> None:
    first, second = pair
    assert path([chunk("x", {"v": first})], [chunk("x", {"v": second})], Tolerance(numbers=0.1)) is not None


def test_only_texts_of_parts_are_compared_as_texts() -> None:
    ignored = Tolerance(text="ignore")

    assert path([chunk("x", "a")], [chunk("x", "b")], ignored) is None
    assert path([chunk("x", {"text": "a"})], [chunk("x", {"text": "b"})], ignored) == "artifact.parts.0.data.text"


def test_a_run_that_agrees_for_longer_scores_higher() -> None:
    def of(*new: Said) -> Compared:
        return compared([status("W"), chunk("x", "a", {"b": 1})], list(new), EXACT, cut=False)

    ordered = [
        of(),
        of(status("W"), status("W")),
        of(status("W"), chunk("x", "b")),
        of(status("W"), chunk("x", "a", 2)),
    ]
    ordered.append(of(status("W"), chunk("x", "a", {"b": 1})))
    assert sorted(ordered, key=lambda one: one.score) == ordered
    assert len({one.score for one in ordered}) == len(ordered)


def test_a_comparison_of_texts_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("not 'fuzzy'")):
        Tolerance(text="fuzzy")  # type: ignore[arg-type]
