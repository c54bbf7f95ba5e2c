"""Whatever builds the image, an environment or a release installs what a lock names by its hash, or what is here."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCAL = {".", "/wheels/*.whl", "/own/*.whl", "dist/*.whl"}
"""What is of this tree, or was made in the step before."""
WITH_VALUE = {"--only-binary", "--no-binary", "--wheel-dir"}
HARMLESS = {"--quiet", "--no-build-isolation", "--no-index", "--editable"}


def installs(recipe: str) -> list[list[str]]:
    """What follows `pip install` and `pip wheel`, wherever they are called."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / recipe).read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    text = re.sub(r"^pip += -m pip .* install --quiet$", "", text, flags=re.MULTILINE).replace("$(pip)", "pip install")
    commands = [shlex.split(each, posix=False) for each in re.split(r"&&|\|\||[;\n]", text) if "pip" in each]
    return [
        command[at + 1 :]
        for command in commands
        for at, word in enumerate(command)
        if word in {"install", "wheel"} and any(re.search(r"\bpip3?$", before) for before in command[:at])
    ]


@pytest.mark.parametrize(("recipe", "times"), [("Dockerfile", 4), ("Makefile", 5), (".ci/run", 2)])
def test_nothing_is_installed_but_by_hash_from_a_lock(recipe: str, times: int) -> None:
    found = installs(recipe)
    assert len(found) == times, found
    for given in found:
        words = [word for at, word in enumerate(given) if not {word, given[max(at - 1, 0)]} & WITH_VALUE]
        locks = {words[at + 1] for at, word in enumerate(words) if word in {"-r", "--requirement"}}
        rest = set(words) - HARMLESS - {"-r", "--requirement"} - locks
        if locks:
            assert rest == {"--require-hashes"}, given
            assert locks <= {f"requirements/{lock.name}" for lock in (ROOT / "requirements").glob("*.txt")}
        else:
            assert rest - LOCAL == {"--no-deps"}, given
            assert rest & LOCAL, given
