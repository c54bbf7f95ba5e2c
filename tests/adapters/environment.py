"""Environments of their own for frameworks that do not fit beside what the tests run with."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Final

import pytest

INSTALL_SECONDS: Final = 300
NO_NETWORK: Final = (
    "Temporary failure in name resolution",
    "Name or service not known",
    "nodename nor servname",
    "Connection refused",
    "Network is unreachable",
    "timed out",
)
"""What pip says where there is no index to be reached; whatever else it says is a failure."""


def python_with(lock: Path) -> Path:
    """The interpreter of an environment that holds what a lock says, checked against its hashes; made once a lock.

    Our own package is not in it: give processes its folder as ``PYTHONPATH``. The test is skipped where no package
    index is to be reached.
    """
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "a2a-events-tests"
    ready = cache / f"python-{lock.stem}-{digest}"
    python = ready / "bin" / "python"
    if ready.exists():
        return python
    cache.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=cache))
    try:
        venv.create(made, symlinks=True, with_pip=True)
        _install(made / "bin" / "python", lock)
        with contextlib.suppress(OSError):  # another run was faster; what it installed is the same
            made.rename(ready)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return python


def _install(python: Path, lock: Path) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-input"]
    command += ["--require-hashes", "-r", str(lock)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"pip did not install {lock.name} within {INSTALL_SECONDS} s: is there a network?")
    if done.returncode and any(sign in done.stderr for sign in NO_NETWORK):
        pytest.skip(f"pip found no package index: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
