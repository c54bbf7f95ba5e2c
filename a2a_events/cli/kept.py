"""Files with keys that commands change while services read them, which may run as somebody else."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from a2a_events import limits
from a2a_events.cli.outcome import Failure

T = TypeVar("T")

_POLL_SECONDS: Final = 0.02
DAY_SECONDS: Final = 24 * 3600


def after(days: float | None) -> int | None:
    """So many days from now, seconds since 1970; None: never."""
    return None if days is None else int(time.time() + days * DAY_SECONDS)


def read(path: Path, parse: Callable[[bytes], list[T]], *, missing_is_empty: bool = False) -> list[T]:
    """What is in a file.

    Args:
        path: of the file.
        parse: reads its bytes; raises ValueError where they are none of its kind.
        missing_is_empty: whether there need not be such a file.

    Raises:
        Failure: there is none, or it cannot be read.
    """
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        if missing_is_empty:
            return []
        raise Failure(f"there is no file {path}") from None
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise Failure(f"{path}: {error}") from None


@contextmanager
def changed(
    path: Path,
    parse: Callable[[bytes], list[T]],
    written: Callable[[list[T]], bytes],
    *,
    missing_is_empty: bool = False,
) -> Generator[list[T]]:
    """What is in a file, to be changed in place: at the end of the block it is written, unless that has raised.

    One change after the other, over all commands on this machine. Whoever reads the file meanwhile sees the old one or
    the new one. It keeps its owner, group and mode; a link stays one, and what it leads to is changed.

    Args:
        path: of the file.
        parse: as :func:`read`.
        written: the bytes of it.
        missing_is_empty: as :func:`read`; a new file is readable to its owner only.

    Raises:
        Failure: it cannot be read, or not be written with the owner that it has; it is as before.
    """
    real = Path(os.path.realpath(path))
    with _alone(real.parent, path):
        found = read(path, parse, missing_is_empty=missing_is_empty)
        yield found
        _replace(real, path, written(found))


@contextmanager
def _alone(folder: Path, path: Path) -> Generator[None]:
    # The folder is what is locked: the file is replaced, and a file for locks would stay behind as its maker's.
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Failure(f"cannot write {path}: {folder}: {error.strerror}") from None
    try:
        _lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    until = time.monotonic() + limits.KEY_FILE_LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise Failure(f"another command is changing {path} or a file beside it; try again") from None
            time.sleep(_POLL_SECONDS)
        except OSError as error:
            raise Failure(f"cannot lock the folder of {path}: {error.strerror}; change a copy elsewhere") from None
        else:
            return


def _replace(real: Path, path: Path, content: bytes) -> None:
    beside = real.with_name(f".{real.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            if real.exists():
                _like(file.fileno(), real, path)
            file.flush()
            os.fsync(file.fileno())  # what is revoked does not come back with the power
        beside.replace(real)
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}") from None
    finally:
        beside.unlink(missing_ok=True)


def _like(descriptor: int, real: Path, path: Path) -> None:
    """Give a new file the owner, group and mode of the one that it replaces: a service may read it as that user."""
    old, new = real.stat(), os.fstat(descriptor)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        try:
            os.fchown(descriptor, old.st_uid, old.st_gid)
        except OSError:
            raise Failure(
                f"cannot write {path}: it is of user {old.st_uid}, group {old.st_gid}, and would not stay so; "
                "run this as that user"
            ) from None
    os.fchmod(descriptor, old.st_mode & 0o777)
