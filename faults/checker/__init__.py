"""Judges a faults run from its histories and its final log alone: ``python -m faults.checker <folder>``.

The rules (I1–I16 of ``docs/reliability.md``) are written anew here. Of the product only the unpacking of record headers
is used, and its fold where I5 compares folds. One pass over everything: each task is a list whose order the log tells,
so no search for an order is needed.
"""

from __future__ import annotations

from faults.checker.judge import judge
from faults.checker.result import Result
from faults.checker.run import Run, Terms, load

__all__ = ["Result", "Run", "Terms", "judge", "load"]
