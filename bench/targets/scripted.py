"""The scripted agent, as far as benchmarks use it: every comparator's agent takes its chunks from here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from bench.jobs import Script

ARTIFACT = "artifact-1"


def script_of(data: Any) -> Script:
    """The script in a data part; numbers may have become floats on their way through protobuf."""
    return msgspec.convert(data["script"], Script, strict=False)


async def chunks(script: Script) -> AsyncIterator[tuple[int, str, bool]]:
    """Number, text and whether it is the last, with the script's pause between."""
    for number in range(script.chunks):
        if script.delay_ms and number:
            await asyncio.sleep(script.delay_ms / 1000)
        yield number, chunk_text(number, script), number == script.chunks - 1


def chunk_text(number: int, script: Script) -> str:
    start = f"{number:06d} {time.time_ns()} " if script.stamp else f"{number:06d} "
    return start.ljust(script.bytes, "x")
