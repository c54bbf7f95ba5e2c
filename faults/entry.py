"""What the entries of gateways, workers and notifiers share: the recorder, and what a negative control breaks."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from a2a_events.log.port import Log
from faults import sabotage
from faults.history import Recorder
from faults.recording import recorded as recording

FOLDER: Final = "FAULTS_HISTORIES"
"""Environment variable: folder of the histories."""
PROCESS: Final = "FAULTS_PROCESS"
"""Environment variable: name of this process in them."""
SABOTAGE: Final = "FAULTS_SABOTAGE"
"""Environment variable: what to break on purpose, see ``sabotage``."""


@contextmanager
def recorded() -> Generator[Callable[[Log], Log]]:
    """A function that puts the recorder around a log, for as long as this process lives."""
    broken = os.environ.get(SABOTAGE, "")
    sabotage.patch(broken)
    with Recorder(Path(os.environ[FOLDER]), os.environ[PROCESS], sabotage=broken) as recorder:
        yield lambda log: sabotage.wrap(broken, recording(log, recorder))
