"""`make audit`: what is known to be vulnerable fails, and what nobody could look for is said and is no failure."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ADVISORIES = ROOT / ".ci" / "advisories.py"
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
KNOWN = ("jinja2", "2.4.1")
"""What a source has to know to be believed."""
BUILD = ROOT / "requirements" / "build.txt"

pytestmark = pytest.mark.timeout(180)  # pip-audit is a process that imports much, once for each lock

Vulns = Callable[[str], list[dict[str, Any]]]


def advisory(name: str, number: str = "GHSA-aaaa-bbbb-cccc") -> dict[str, Any]:
    """An advisory in OSV's form."""
    affected = {"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [
        {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9999"}]}]}  # fmt: skip
    return {"id": number, "summary": "bad", "details": "bad", "aliases": ["CVE-2026-0001"], "affected": [affected],
            "published": "2026-01-01T00:00:00Z", "modified": "2026-01-01T00:00:00Z"}  # fmt: skip


@contextlib.contextmanager
def source(vulns: Vulns, *, status: int = 200, knows: bool = True) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """An HTTP server on loopback that answers as OSV does; its address, and what it was asked about."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = query["package"]["name"]
            asked.append((name, query["version"]))
            old = knows and asked[-1] == KNOWN
            found = [advisory("jinja2")] if old else vulns(name)
            body = json.dumps({"vulns": found} if found else {}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def audit(url: str, *more: str, locks: list[Path] | None = None) -> subprocess.CompletedProcess[str]:
    given = [str(lock) for lock in locks or [BUILD]]
    command = [sys.executable, str(ADVISORIES), "--url", url, *more, *given]
    return subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)


def nothing(_: str) -> list[dict[str, Any]]:
    return []


def test_every_package_of_every_lock_is_asked_about() -> None:
    """Those that this Python and platform do not install as well: the image is of another Python."""
    pins = {
        pin
        for lock in LOCKS
        for pin in re.findall(r"^([a-z0-9-]+)(?:\[[^]]*\])?==([^\s;]+)", lock.read_text(), re.MULTILINE)
    }
    assert len({name for name, _ in pins}) < len(pins), "no package has two versions: nothing is for another Python"
    with source(nothing) as (url, asked):
        done = audit(url, locks=LOCKS)
    assert done.returncode == 0, done.stderr
    assert f"{len(pins)} packages, no known vulnerability" in done.stdout
    assert set(asked) - {KNOWN} == pins


def test_a_vulnerability_of_another_python_or_platform_fails(tmp_path: Path) -> None:
    pin = f"--hash=sha256:{'0' * 64}"
    markers = {"elsewhere": "sys_platform == 'other'", "older": "python_full_version < '3'", "here": "os_name != ''"}
    lock = "".join(
        f"{name}==1.0 ; {marker} \\\n    {pin} \\\n    {pin}\n    # via\n" for name, marker in markers.items()
    )
    (tmp_path / "lock.txt").write_text(lock)
    with source(lambda name: [advisory(name)] if name in markers else []) as (url, _):
        done = audit(url, locks=[tmp_path / "lock.txt"])
    assert done.returncode == 1
    for name in markers:
        assert f"{name} 1.0: CVE-2026-0001 = GHSA-aaaa-bbbb-cccc" in done.stderr


def test_a_known_vulnerability_fails() -> None:
    with source(lambda name: [advisory(name)] if name == "hatchling" else []) as (url, _):
        done = audit(url)
    assert done.returncode == 1
    assert "hatchling" in done.stderr
    assert "CVE-2026-0001" in done.stderr
    assert "GHSA-aaaa-bbbb-cccc" in done.stderr
    assert "NOT AUDITED" not in done.stderr


@pytest.mark.parametrize("named", ["GHSA-aaaa-bbbb-cccc", "CVE-2026-0001"])
def test_one_that_may_stay_for_a_reason_does_not(named: str, tmp_path: Path) -> None:
    (tmp_path / "ignored").write_text(f"# what\n{named}: only with a moon of cheese\n")
    with source(lambda name: [advisory(name)] if name == "hatchling" else []) as (url, _):
        done = audit(url, "--ignored", str(tmp_path / "ignored"))
    assert done.returncode == 0, done.stderr
    assert "only with a moon of cheese" in done.stdout


def test_one_that_is_ignored_and_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "ignored").write_text("GHSA-aaaa-bbbb-cccc: once\n")
    with source(nothing) as (url, _):
        done = audit(url, "--ignored", str(tmp_path / "ignored"))
    assert done.returncode == 1
    assert "GHSA-aaaa-bbbb-cccc is ignored, and is not found any more" in done.stderr


@pytest.mark.parametrize("line", ["GHSA-aaaa-bbbb-cccc", "GHSA-aaaa-bbbb-cccc:", "GHSA-aaaa-bbbb-cccc:   ", "no id: x"])
def test_an_ignored_advisory_needs_a_reason(line: str, tmp_path: Path) -> None:
    (tmp_path / "ignored").write_text(line + "\n")
    done = audit("http://127.0.0.1:9/", "--ignored", str(tmp_path / "ignored"))
    assert done.returncode == 1
    assert "ignored:1" in done.stderr


def test_where_nobody_answers_it_says_so_and_goes_on() -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1/query"
        done, required = audit(url), audit(url, "--required")
    assert done.returncode == 0
    assert "NOT AUDITED" in done.stderr
    assert "no known vulnerability" not in done.stdout
    assert required.returncode == 1


def test_a_name_that_does_not_resolve_is_nobody() -> None:
    done = audit("https://advisories.invalid/v1/query")
    assert done.returncode == 0
    assert "NOT AUDITED" in done.stderr


@pytest.mark.parametrize("status", [403, 500, 503])
def test_a_refusal_is_no_answer(status: int) -> None:
    with source(nothing, status=status) as (url, _):
        done = audit(url)
    assert done.returncode == 0
    assert "NOT AUDITED" in done.stderr
    assert str(status) in done.stderr


def test_a_source_that_knows_nothing_is_not_believed() -> None:
    with source(nothing, knows=False) as (url, _):
        done = audit(url)
    assert done.returncode == 0
    assert "NOT AUDITED" in done.stderr


def test_a_source_that_is_too_slow_is_not_waited_for() -> None:
    def slow(_: str) -> list[dict[str, Any]]:
        time.sleep(2)
        return []

    with source(slow) as (url, _):
        done = audit(url, "--seconds", "1")
    assert done.returncode == 0
    assert "NOT AUDITED" in done.stderr
    assert "in time" in done.stderr


@pytest.mark.parametrize(
    "line", ["msgspec==0.22.0", "msgspec>=0.22.0 --hash=sha256:" + "0" * 64, "msgspec==0.22.0 --hash=md5:" + "0" * 32,
             "https://packages.invalid/msgspec.whl --hash=sha256:" + "0" * 64, "-r other.txt"]
)  # fmt: skip
def test_a_lock_without_hashes_fails(line: str, tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text(BUILD.read_text() + line + "\n")
    with source(nothing) as (url, _):
        done = audit(url, locks=[tmp_path / "lock.txt"])
    assert done.returncode == 1
    assert "could not audit" in done.stderr
    assert line[:40] in done.stderr
