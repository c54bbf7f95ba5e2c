"""The command line: ``a2a-events``.

One module a command, imported when it is asked for. ``outcome`` turns every way a command can end into an exit code and
one sentence; ``flags`` holds the options that are settings; ``show`` prints updates.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from a2a_events.cli.outcome import Exit

FAILED: Final = Exit.FAILED
USAGE: Final = Exit.USAGE
UNAVAILABLE: Final = Exit.UNAVAILABLE

__all__ = ["FAILED", "UNAVAILABLE", "USAGE", "Exit", "main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit.

    Args:
        arguments: without the program's name; default: this process's.
    """
    from a2a_events.cli.outcome import exit_code_of
    from a2a_events.cli.root import root

    if os.getpid() == 1:
        # The first process of a container ends on no signal that it has no handler for; services set their own.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(exit_code_of(lambda: root.main(args=arguments, prog_name="a2a-events", standalone_mode=False)))
