"""A file that operators change while it is in use: kept in memory, and read again when it is another."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import structlog

from a2a_events import limits

T = TypeVar("T")
_State: TypeAlias = tuple[int, int, int]

logger = structlog.get_logger(__name__)


class KeptFile(Generic[T]):
    """What a file says. It is looked at again every ``limits.FILE_FRESH_SECONDS``, when somebody asks.

    One that has become unreadable changes nothing, and is logged: a slip must neither lock everybody out nor let
    anybody in. Nor does one that is being written, as far as that can be seen: that changes while it is read, or that
    is empty at one look and not at the next. Whoever replaces the file at once, by renaming another, need not care.

    Args:
        path: of the file.
        parse: reads its bytes; raises ValueError where they are none of its kind.

    Raises:
        OSError: it cannot be read now.
        ValueError: as ``parse``.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        self._path = path
        self._parse = parse
        self._seen = _state(path)
        self._content = parse(path.read_bytes())
        self._empty: _State | None = None
        """As it was when a look found it empty."""
        self._looked = time.monotonic()

    @property
    def content(self) -> T:
        """What it says."""
        now = time.monotonic()
        if now - self._looked >= limits.FILE_FRESH_SECONDS:
            self._looked = now
            self._look()
        return self._content

    def _look(self) -> None:
        try:
            state = _state(self._path)
            if state == self._seen:
                return
            content = self._path.read_bytes()
            if _state(self._path) != state:
                return  # it is being written; the next look is soon
            if not content.strip() and state != self._empty:
                self._empty = state
                return
            self._content = self._parse(content)
            self._seen = state
            logger.info("file read again", path=str(self._path))
        except (OSError, ValueError) as error:
            logger.error("file cannot be read; what it said before holds", path=str(self._path), error=str(error))


def _state(path: Path) -> _State:
    """Changes when the file does, also where it is a link that now leads elsewhere."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
