"""A disk for each server, which can be filled and can lose its power: loop-mounted ext4, where root allows."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

SIZE_BYTES: Final = 3 * 1024**3
"""Of the image; it is sparse."""
_SHUTDOWN: Final = 0x8004587D
"""EXT4_IOC_SHUTDOWN: from now on nothing reaches the disk."""
_WITHOUT_FLUSH: Final = 2
"""EXT4_GOING_FLAGS_NOLOGFLUSH: the journal in memory is lost as well, as when the power fails."""


class Disk:
    """An ext4 in a file, mounted."""

    def __init__(self, folder: Path, name: str) -> None:
        self.image = folder / f"{name}.ext4"
        self.mount_point = folder / f"{name}.disk"
        self._filler = self.mount_point / "filler"
        self._mounted = False

    def make(self) -> None:
        """Make and mount it.

        Raises:
            OSError, subprocess.CalledProcessError: not here.
        """
        self.mount_point.mkdir(parents=True, exist_ok=True)
        with self.image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", str(self.image))
        self.mount()

    def mount(self) -> None:
        """Mount it; what was in its journal is done first."""
        _run("mount", "-o", "loop,noatime", str(self.image), str(self.mount_point))
        self._mounted = True

    def unmount(self) -> None:
        """Unmount it; nobody may use it any longer."""
        if self._mounted:
            _run("umount", str(self.mount_point))
            self._mounted = False

    async def close(self) -> None:
        """Unmount and remove it. A server that has just been killed may hold it a moment longer."""
        for attempt in range(50):
            try:
                self.unmount()
                break
            except subprocess.CalledProcessError:
                if attempt == 49:
                    raise
                await asyncio.sleep(0.1)
        self.image.unlink(missing_ok=True)

    def cut_power(self) -> None:
        """From now on nothing that was not flushed will ever be on the disk."""
        descriptor = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _WITHOUT_FLUSH.to_bytes(4, "little"))
        finally:
            os.close(descriptor)

    def fill(self) -> int:
        """Take all room that is left; its bytes."""
        free = shutil.disk_usage(self.mount_point).free
        descriptor = os.open(self._filler, os.O_WRONLY | os.O_CREAT)
        try:
            # What is reserved for root is free to us as well: take until there is nothing.
            size, step = 0, free
            while step >= 4096:
                try:
                    os.posix_fallocate(descriptor, size, step)
                    size += step
                except OSError:
                    step //= 2
        finally:
            os.close(descriptor)
        return size

    def empty(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)


def disks(folder: Path, names: list[str]) -> tuple[list[Disk], str]:
    """A disk for each name; none and the reason where there can be none."""
    if os.geteuid() != 0:
        return [], "not root"
    if shutil.which("mkfs.ext4") is None or shutil.which("mount") is None:
        return [], "no mkfs.ext4 or mount"
    made: list[Disk] = []
    try:
        for name in names:
            disk = Disk(folder, name)
            made.append(disk)
            disk.make()
    except (OSError, subprocess.CalledProcessError) as error:
        for disk in made:
            disk.unmount()
            disk.image.unlink(missing_ok=True)
        detail = error.stderr.decode().strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        return [], f"no loop mounts here: {detail}"
    return made, ""


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
