"""A short run of everything: three servers, gateways, workers, clients, webhooks, some faults, and one verdict.

``make faults`` is the long one. The seed chooses what clients do; which processes get what when is up to the machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from faults import sabotage

pytestmark = [pytest.mark.integration, pytest.mark.processes]

FAULTS = ["worker-killed", "leader-killed", "gateway-killed"]
MORE = [*FAULTS, "worker-acks-lost", "zombie", "webhooks-refused"]


def run(
    folder: Path, *arguments: str, timeout_seconds: float
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """One run in a process of its own, and its verdict."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("A2A_EVENTS_")}
    done = subprocess.run(
        [sys.executable, "-m", "faults", "--folder", str(folder), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=timeout_seconds,
        check=False,
    )
    result = folder / "result.json"
    return done, msgspec.json.decode(result.read_bytes()) if result.exists() else {}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("faults", [FAULTS, pytest.param(MORE, marks=pytest.mark.slow)], ids=["killed", "all"])
def test_a_cluster_whose_parts_are_killed_one_after_the_other_breaks_no_promise(
    tmp_path: Path, faults: list[str]
) -> None:
    done, result = run(
        tmp_path / "run",
        *("--seed", "short", "--tasks", "100000", "--minutes", "1.5", "--clients", "5"),
        *("--gateways", "2", "--workers", "3", "--notifiers", "1", "--ack-wait", "3"),
        *("--scenario", ",".join(faults), "--times", "1", "--pause", "1"),
        timeout_seconds=220,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert result["valid"]
    assert result["counts"]["webhooks that were told the end"] > 3
    assert f"{len(faults)} of {len(faults)} kinds bit" in done.stdout, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("kind", "faults"),
    [
        (sabotage.NO_EXPECTED_POSITION, "zombie,worker-unplugged"),
        (sabotage.NO_EPOCH, "zombie,worker-unplugged"),
        (sabotage.RESUME_FROM_NOW, "none"),
        (sabotage.MEMORY_STORAGE, "all-killed,leader-killed"),
        (sabotage.ACK_BEFORE_APPEND, "worker-killed"),
        (sabotage.NO_WEBHOOK_RETRY, "webhooks-refused"),
    ],
)
def test_a_safety_that_is_switched_off_is_noticed(tmp_path: Path, kind: str, faults: str) -> None:
    done, result = run(
        tmp_path / "run",
        *("--seed", kind, "--tasks", "200", "--minutes", "2", "--clients", "10", "--sabotage", kind),
        *("--gateways", "2", "--workers", "3", "--notifiers", "1", "--ack-wait", "3"),
        *("--scenario", faults, "--pause", "1"),
        timeout_seconds=380,
    )
    assert done.returncode == 1, done.stdout[-6000:] + done.stderr[-3000:]
    assert not result["valid"]
