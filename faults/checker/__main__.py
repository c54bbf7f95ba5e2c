"""``python -m faults.checker FOLDER [name=value …]``: judge a run, write its result, and say so with the exit code."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from faults.checker.judge import judge
from faults.checker.result import write
from faults.checker.run import Terms, load


def main(arguments: list[str]) -> int:
    """0 if nothing is broken, 1 if something is."""
    folder = Path(arguments[0])
    terms = msgspec.convert(dict(a.split("=", 1) for a in arguments[1:]), Terms, strict=False)
    run = load(folder, terms)
    result = write(judge(run), folder, run)
    print(result.summary())
    return 0 if result.valid else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
