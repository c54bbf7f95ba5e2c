"""Thousands of seeded runs, each judged; and that the same seed is the same run, and that nothing was too tame.

``A2A_EVENTS_SEEDS=5000-9999 make test ARGS='-k whatever_goes_wrong'`` runs other seeds than the usual ones.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Final

import pytest

from tests.simulation import scenario

SEEDS: Final = os.environ.get("A2A_EVENTS_SEEDS", "1-600")
SLOW_SEEDS: Final = "100001-110000"
BLOCK: Final = 50

pytestmark = pytest.mark.timeout(300)  # the work of seconds; only a bound against hanging on a busy machine

SOMETIMES: Final = (
    *("kill worker", "kill gateway", "pause worker", "pause gateway", "cut off worker", "cut off gateway"),
    *("outage", "storm", "drain worker"),
    *("conflict", "refused", "request lost", "request late", "answer lost"),
    *("lost answer resolved as stored", "lost answer resolved as not stored", "answers unknown", "read cut"),
    *("live copy lost", "live copy late", "live copy doubled", "notice lost"),
    *("delivery lost", "redelivered", "acknowledgement lost", "acknowledgement late", "sign of life lost"),
    *("snapshot used", "snapshot stale", "snapshot lost", "segment missing"),
    *("fenced", "taken over", "turn given up", "turn ended without running", "next turn in the ending"),
    *("disconnected", "resumed from a cursor", "received in a turn", "messages unread", "bare replies"),
    *("cancel came too late", "cancel beat an ending", "cancel ignored", "agent does not stop", "recycled"),
    *("step not done again", "suspended", "turn woken", "task expired", "released", "tried again", "dead-lettered"),
    *("ended COMPLETED", "ended FAILED", "ended CANCELED", "ended REJECTED"),
)
"""What must have happened within two hundred seeds, or the runs have become too tame."""


def blocks(seeds: str) -> list[range]:
    first, _, last = seeds.partition("-")
    end = int(last or first) + 1
    return [range(at, min(at + BLOCK, end)) for at in range(int(first), end, BLOCK)]


def judged(seeds: Iterable[int]) -> Counter[str]:
    """Run and judge; how often everything happened.

    Raises:
        AssertionError: promises were broken; names the seeds, and the command that shows the first one.
    """
    counts: Counter[str] = Counter()
    failed: list[str] = []
    for seed in seeds:
        verdict = scenario.run(seed)
        counts += verdict.history.counts
        violations = [violation for violation in verdict.violations if not scenario.known(violation)]
        if violations:
            again = f"python -m tests.simulation {seed}"
            failed.append("\n".join([f"seed {seed} (to see it: {again})", *violations]))
    gc.collect()  # between runs, so that no run sees it
    assert not failed, "\n\n".join(failed[:5])
    return counts


@pytest.mark.parametrize("seeds", blocks(SEEDS), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_every_promise_is_kept_whatever_goes_wrong(seeds: range) -> None:
    judged(seeds)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", blocks(SLOW_SEEDS), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_every_promise_is_kept_in_many_more_runs(seeds: range) -> None:
    judged(seeds)


def test_everything_that_can_happen_does_happen() -> None:
    counts = judged(range(200_001, 200_201))

    assert [name for name in SOMETIMES if not counts[name]] == []


@pytest.mark.parametrize("seed", [7, 23, 101])
def test_a_seed_is_the_same_run_every_time(seed: int) -> None:
    first, second = scenario.run(seed), scenario.run(seed)

    assert first.history.lines() == second.history.lines()
    assert first.digest == second.digest
    assert first.history.counts == second.history.counts
    assert len(first.history.lines()) > 10


def test_another_seed_is_another_run() -> None:
    assert scenario.run(7).history.lines() != scenario.run(8).history.lines()


def test_a_seed_is_the_same_run_in_every_process() -> None:
    def trace(hash_seed: str, *before: str) -> bytes:
        code = "import sys; from tests.simulation import scenario; [scenario.run(s) for s in sys.argv[1:-1]]; "
        code += "v = scenario.run(sys.argv[-1]); print(v.digest, *v.history.lines(), sep='\\n')"
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", code, *before, "23"], env=environment, capture_output=True, check=True
        )
        return done.stdout

    one, other = trace("1"), trace("2", "5", "6")

    assert one == other
    assert one.count(b"\n") > 20


def test_the_command_for_one_seed_shows_its_trace_and_its_timelines() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.simulation", "7"], capture_output=True, check=False, text=True)

    assert "append" in done.stdout
    assert "task t1-main-0-" in done.stdout
    assert done.returncode == (1 if scenario.run(7).violations else 0)
