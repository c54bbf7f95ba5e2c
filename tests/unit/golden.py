"""The golden timelines, as records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from a2a_events.timeline.record import Record, unpack

GOLDEN = Path(__file__).parents[1] / "golden"
TIMELINES = sorted(GOLDEN.glob("v*/*.ndjson"))
every_timeline = pytest.mark.parametrize("path", TIMELINES, ids=lambda path: f"{path.parent.name}/{path.stem}")


def records_of(path: Path) -> list[Record]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Record(line["position"], unpack(line["header"]), line["payload"].encode(), inbound=line["inbound"])
        for line in lines
    ]
