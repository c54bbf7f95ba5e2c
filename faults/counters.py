"""What a run shows to have happened: that faults bit, and that what the product does about them was used."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Final

_IN_FLIGHT: Final = b'"e":"Uncertain: another append of the task is being decided'
"""A server of a cluster that has another append of the task in flight says no more than that."""
_COUNT: Final = re.compile(rb'"count":(\d+)')


def counters(folder: Path) -> Counter[str]:
    """Counts over all processes of a run."""
    found: Counter[str] = Counter()
    for path in (folder / "histories").glob("*.jsonl"):
        found["process lives"] += 1
        # A try of an append and its end are two lines of the same process; only the tries know the record.
        with path.open("rb") as file:
            for line in file:
                _count(line, found)
    for path in folder.glob("worker-*.log"):
        found["fenced"] += path.read_bytes().count(b'"event":"fenced"')
    for path in folder.glob("notifier-*.log"):
        said = path.read_bytes()
        found["webhook attempts that failed"] += said.count(b'"event":"webhook did not take an update"')
        found["webhooks given up"] += said.count(b'"event":"webhook given up"')
        found["webhooks taken over"] += said.count(b'"event":"webhooks taken over by another notifier"')
    return found


def _count(line: bytes, found: Counter[str]) -> None:
    if b'"op":"append"' in line:
        found["append tries"] += 1
    elif b'"op":"stored"' in line:
        found["records stored"] += 1
    elif b'"op":"delivery"' in line:
        found["deliveries"] += 1
        count = _COUNT.search(line)
        if count is not None and int(count[1]) > 1:
            found["redelivered"] += 1
    elif b'"op":"update"' in line:
        found["updates shown"] += 1
    elif b'"op":"webhook"' in line:
        found["webhook calls"] += 1
    elif b'"e":"Conflict' in line:
        found["conflicts (10071)"] += 1
    elif _IN_FLIGHT in line:
        found["conflicts in flight (10164)"] += 1
    elif b'"e":"Unavailable: ' in line:
        found["appends refused as unavailable"] += 1
    elif b'"e":"Uncertain' in line:
        found["appends without an answer"] += 1
