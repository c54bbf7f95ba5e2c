"""What a policy checker says of the manifests: nothing but what is annotated, with a reason, where it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.k8s.manifests import TARGETS, render

CHECKOV = Path(__file__).parents[2] / ".venv-policy" / "bin" / "checkov"


@pytest.mark.parametrize("target", TARGETS)
def test_the_policy_checker_finds_nothing_else(target: str, tmp_path: Path) -> None:
    if not CHECKOV.exists():
        pytest.skip("checkov is not installed: `make k8s` does it")
    file = tmp_path / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(render(target)))
    quietly = ("--framework", "kubernetes", "--skip-download", "--quiet", "--compact")
    command = [str(CHECKOV), *quietly, "--file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
