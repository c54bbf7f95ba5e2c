"""`make sbom`: every package that the image's lock names, by version, hash and licence, and the same each time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "image.txt"

pytestmark = pytest.mark.timeout(180)  # the schema is large, and reading it is all work


def made(output: Path) -> str:
    subprocess.run([sys.executable, str(ROOT / ".ci" / "sbom.py"), str(LOCK), str(output)], check=True, timeout=120)
    return output.read_text()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return made(tmp_path_factory.mktemp("sbom") / "sbom.cdx.json")


@pytest.fixture(scope="module")
def bill(text: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text)
    return document


def locked() -> dict[str, tuple[str, set[str], bool]]:
    """Version and hashes of each package, and whether it is for everybody."""
    found: dict[str, tuple[str, set[str], bool]] = {}
    for block in re.split(r"\n(?=[a-z])", LOCK.read_text()):
        first = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)( ;)?", block)
        if first:
            found[first[1]] = (first[2], set(re.findall(r"--hash=sha256:([0-9a-f]{64})", block)), first[3] is None)
    return found


def test_every_locked_package_is_named_with_its_hashes(bill: dict[str, Any]) -> None:
    packages = locked()
    assert len(packages) > 50
    assert {one["name"]: one["version"] for one in bill["components"]} == {
        name: version for name, (version, _, _) in packages.items()
    }
    for one in bill["components"]:
        version, hashes, _ = packages[one["name"]]
        assert one["purl"].startswith(f"pkg:pypi/{one['name']}@{version}")
        shown = {value["content"] for reference in one["externalReferences"] for value in reference.get("hashes", [])}
        assert shown == hashes
        assert hashes


def test_licences_are_there_of_all_that_is_installed_everywhere(bill: dict[str, Any]) -> None:
    packages = locked()
    assert not [one["name"] for one in bill["components"] if not one.get("licenses") and packages[one["name"]][2]]


def test_it_says_what_it_is_of(bill: dict[str, Any]) -> None:
    component = bill["metadata"]["component"]
    assert (component["name"], component["licenses"][0]["license"]["id"]) == ("a2a-events", "Apache-2.0")
    assert "timestamp" not in bill["metadata"]
    assert "serialNumber" not in bill


def test_it_is_the_same_each_time(text: str, tmp_path: Path) -> None:
    assert made(tmp_path / "again.json") == text


def test_it_is_valid_cyclonedx(text: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
