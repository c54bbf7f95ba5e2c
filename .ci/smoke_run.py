"""Do what a newcomer does: `make run`, open the agent card that it names, press Ctrl-C; nothing may stay behind."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid
from collections.abc import Callable
from pathlib import Path

START_SECONDS = 60
STOP_SECONDS = 30  # more than the server's own grace period for open streams
CARD = re.compile(r"https?://[^\s\"']+/\.well-known/agent-card\.json")
# Ctrl-C: the server's own clean exit, or make's when it dies of the signal that it got too.
CLEAN_EXITS = {0, -signal.SIGINT, 128 + signal.SIGINT}


def main() -> None:
    port = free_port()
    marker = f"SMOKE_RUN={uuid.uuid4()}"
    name, _, value = marker.partition("=")
    with tempfile.TemporaryFile() as output:
        # A session of its own is what a terminal gives to a foreground job: Ctrl-C reaches the whole group.
        make = subprocess.Popen(
            ["make", "run", f"PORT={port}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, name: value},
        )

        def printed() -> str:
            return os.pread(output.fileno(), 1 << 20, 0).decode(errors="replace")

        try:
            wait("the agent card's URL on the output", START_SECONDS, lambda: CARD.search(printed()), make)
            url = CARD.findall(printed())[0]
            wait(f"an answer of {url}", START_SECONDS, lambda: status_of(url) == http.HTTPStatus.OK, make)
            if str(port) not in url:
                fail(f"PORT={port} was not obeyed: {url}")
            os.killpg(make.pid, signal.SIGINT)
            try:
                code = make.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                fail(f"still running {STOP_SECONDS} s after Ctrl-C")
            if code not in CLEAN_EXITS:
                fail(f"exit code {code} after Ctrl-C")
            if left := alive(make.pid, marker):
                fail(f"left behind: {left}")
        finally:
            print(printed(), end="")
            kill(alive(make.pid, marker))
    print(f"make run answered at {url} and stopped cleanly")


def wait(what: str, seconds: float, condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            fail(f"make run ended with {process.returncode} before {what}")
        if time.monotonic() > end:
            fail(f"no {what} within {seconds} s")
        time.sleep(0.1)


def status_of(url: str) -> int | None:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status
    except OSError:
        return None  # not listening yet
    finally:
        connection.close()


def alive(group: int, marker: str) -> list[int]:
    """Processes that `make run` started: by its environment, or, without /proc, by its process group alone."""
    proc = Path("/proc")
    if not (proc / "self/environ").exists():
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return []
        return [group]
    found: list[int] = []
    for directory in proc.glob("[0-9]*"):
        try:
            if marker.encode() in (directory / "environ").read_bytes().split(b"\0"):
                found.append(int(directory.name))
        except OSError:
            continue  # gone, or someone else's
    return found


def kill(processes: list[int]) -> None:
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fail(why: str) -> None:
    sys.exit(f"smoke test of make run: {why}")


if __name__ == "__main__":
    main()
