"""Look for known vulnerabilities in everything that the locks name: ``advisories.py [--required] LOCK...``.

pip-audit asks OSV about each package. Where OSV cannot be reached nothing is known, which is said loudly and is no
failure, unless ``--required`` says that it is one. A source is believed only if it knows a vulnerability that it must
know. What is found fails, unless ``.ci/ignored-advisories`` says why it may stay; so does what is ignored there and is
not found any more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

OSV: Final = "https://api.osv.dev/v1/query"
KNOWN: Final = ("jinja2", "2.4.1")
"""A version with advisories since 2014: a source that has none of them has none of ours either."""
PROBE_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 15
AUDIT_SECONDS: Final = 300.0
"""Some 350 questions, one after the other."""
IGNORED: Final = Path(__file__).parent / "ignored-advisories"
_PIN: Final = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?==(?P<version>[^\s;]+)"
    r"(?:\s*;.*?)?(?P<hashes>(?:\s+--hash=sha256:[0-9a-f]{64})+)"
)
_IGNORED_LINE: Final = re.compile(r"([A-Za-z0-9-]+):\s+(\S.*)")


class Unreachable(Exception):
    """Nobody answers who knows advisories."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("locks", nargs="+", type=Path, metavar="LOCK", help="requirements with hashes")
    parser.add_argument("--required", action="store_true", help="fail where the source cannot be reached")
    parser.add_argument("--url", default=OSV, help="of a source that answers like OSV")
    parser.add_argument("--ignored", type=Path, default=IGNORED, help="advisories that may stay, and why")
    parser.add_argument("--seconds", type=float, default=AUDIT_SECONDS, help="for all questions together")
    given = parser.parse_args()
    ignored = reasons(given.ignored)
    locks = rounds(pins(given.locks))
    try:
        probe(given.url)
        end = time.monotonic() + given.seconds
        found = [one for lock in locks for one in audited(lock, given.url, end - time.monotonic())]
    except Unreachable as error:
        print(f"!!! NOT AUDITED: {error}", file=sys.stderr)
        print("!!! Nobody has looked for known vulnerabilities. Run `make audit` where OSV answers.", file=sys.stderr)
        return 1 if given.required else 0
    return report(found, ignored)


def reasons(path: Path) -> dict[str, str]:
    """Why each ignored advisory may stay."""
    made: dict[str, str] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = _IGNORED_LINE.fullmatch(line.strip())
        if parts is None:
            sys.exit(f"{path}:{number}: {line!r} is not `ADVISORY: the reason why it may stay`")
        made[parts[1]] = parts[2]
    return made


def probe(url: str) -> None:
    """Whether somebody answers who knows what everybody must know."""
    name, version = KNOWN
    question = json.dumps({"package": {"name": name, "ecosystem": "PyPI"}, "version": version}).encode()
    request = urllib.request.Request(url, question, {"Content-Type": "application/json"})  # noqa: S310 -- the caller's
    try:
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS) as answer:  # noqa: S310 -- as above
            known = json.load(answer)
    except OSError as error:
        raise Unreachable(f"{url} cannot be reached: {error}") from None
    except ValueError:
        known = None
    if not isinstance(known, dict) or not known.get("vulns"):
        raise Unreachable(f"{url} has no advisory for {name} {version}, so it would have none for us")


def pins(locks: list[Path]) -> dict[tuple[str, str], str]:
    """By name and version, what is pinned, with hashes: of every platform and Python, whichever this one is."""
    made: dict[tuple[str, str], str] = {}
    for lock in locks:
        for line in lock.read_text().replace("\\\n", " ").splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            pin = _PIN.fullmatch(line.strip())
            if pin is None:
                sys.exit(f"{lock}: could not audit {line.strip()[:80]!r}: it is no version with hashes")
            made[pin["name"], pin["version"]] = f"{pin['name']}=={pin['version']} {pin['hashes']}"
    return made


def rounds(pinned: dict[tuple[str, str], str]) -> list[list[str]]:
    """The pins in as many locks as are needed: pip-audit takes one version of a package at a time."""
    versions: dict[str, list[str]] = {}
    for (name, _), pin in sorted(pinned.items()):
        versions.setdefault(name, []).append(pin)
    return [[pin for pin in each if pin] for each in itertools.zip_longest(*versions.values())]


def audited(lock: list[str], url: str, seconds: float) -> list[dict[str, Any]]:
    """Packages, and the advisories of each.

    pip-audit passes over what is not for the Python and platform that it runs on: the pins come without such markers.
    """
    with tempfile.TemporaryDirectory() as folder:
        output, given = Path(folder) / "audit.json", Path(folder) / "lock.txt"
        given.write_text("\n".join(lock) + "\n")
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner=off"]
        command += [f"--timeout={ANSWER_SECONDS}", "--vulnerability-service=osv", f"--osv-url={url}"]
        command += ["--format=json", "--desc=off", "--aliases=on", f"--output={output}", f"--requirement={given}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise Unreachable(f"{url} did not answer all questions in time") from None
        try:
            dependencies: list[dict[str, Any]] = json.loads(output.read_text())["dependencies"]
        except (OSError, ValueError):
            probe(url)  # it may have gone away in between
            sys.exit(f"pip-audit failed:\n{done.stderr[-2000:]}")
        return dependencies


def report(found: list[dict[str, Any]], ignored: dict[str, str]) -> int:
    """Say what was found; the exit code."""
    bad, used = 0, set[str]()
    for package in found:
        if "skip_reason" in package:
            print(f"{package['name']}: not audited: {package['skip_reason']}", file=sys.stderr)
            bad += 1
        for advisory in package.get("vulns", []):
            ids = [advisory["id"], *advisory["aliases"]]
            named = f"{package['name']} {package['version']}: {' = '.join(ids)}"
            if excused := [one for one in ids if one in ignored]:
                used.update(excused)
                print(f"{named}: ignored: {ignored[excused[0]]}")
                continue
            fixed = ", ".join(advisory["fix_versions"]) or "no version yet"
            print(f"{named}; fixed in {fixed}", file=sys.stderr)
            bad += 1
    for one in sorted(set(ignored) - used):
        print(f"{one} is ignored, and is not found any more: take it out", file=sys.stderr)
        bad += 1
    if bad:
        print(
            "Update with `make lock ARGS=--upgrade`, or say why it may stay in .ci/ignored-advisories", file=sys.stderr
        )
        return 1
    print(f"{len(found)} packages, no known vulnerability")
    return 0


if __name__ == "__main__":
    sys.exit(main())
