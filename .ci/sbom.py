"""Write the bill of materials of what the image is made of, as CycloneDX JSON: ``sbom.py LOCK OUTPUT``.

It is made of the lock alone, so it is the same wherever and whenever it is made: each package with its version and the
hashes that pip accepts. Licences are those that the packages installed here declare; what is not installed here,
because it is for another platform, has none.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent


def main(lock: Path, output: Path) -> None:
    bill = cyclonedx("requirements", str(lock), "--pyproject", str(ROOT / "pyproject.toml"))
    installed = {identity(one): one for one in cyclonedx("environment", sys.executable)["components"]}
    for component in bill["components"]:
        component.pop("description", None)  # the line of the lock
        here = installed.get(identity(component))
        if here is not None and (licences := here.get("licenses") or in_words(here["name"])):
            component["licenses"] = licences
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(bill, indent=2, sort_keys=True) + "\n")
    licensed = sum("licenses" in component for component in bill["components"])
    print(f"{output}: {len(bill['components'])} packages, {licensed} of them with a licence")


def cyclonedx(kind: str, *arguments: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "bom.json"
        command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", kind, *arguments]
        command += ["--output-reproducible", "--spec-version=1.6", "--no-validate", "--output-file", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        bill: dict[str, Any] = json.loads(made.read_text())
        return bill


def in_words(name: str) -> list[dict[str, Any]]:
    """The licence of a package that declares no SPDX expression and no classifier: the title of its own text."""
    title = (importlib.metadata.metadata(name)["License"] or "").strip().split("\n")[0]
    return [{"license": {"name": title, "acknowledgement": "declared"}}] if title else []


def identity(component: dict[str, Any]) -> tuple[str, str]:
    """Name and version, as PEP 503 compares names."""
    return component["name"].lower().replace("_", "-").replace(".", "-"), component.get("version", "")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
