"""What a command prints on a terminal: a real one of the kernel's, of a fixed width."""

from __future__ import annotations

import fcntl
import io
import os
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

COLUMNS, LINES = 100, 40


class Terminal:
    """What came out of it, as text."""

    def __init__(self) -> None:
        self.bytes = b""

    @property
    def text(self) -> str:
        """Everything that was printed; a terminal gets a carriage return with each newline."""
        return self.bytes.decode().replace("\r\n", "\n")


@contextmanager
def terminal() -> Iterator[Terminal]:
    """Put a terminal in the place of this process's standard output."""
    shown = Terminal()
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))

    def reading() -> None:
        while True:
            try:
                got = os.read(ours, 65536)
            except OSError:  # nobody has the other side open any more
                return
            if not got:
                return
            shown.bytes += got

    reader = threading.Thread(target=reading)
    reader.start()
    before = sys.stdout
    sys.stdout = io.TextIOWrapper(io.FileIO(theirs, "w"), encoding="utf-8", write_through=True)
    try:
        yield shown
    finally:
        sys.stdout.close()
        sys.stdout = before
        reader.join()
        os.close(ours)
