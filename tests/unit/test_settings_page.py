"""The table of settings in the README."""

from __future__ import annotations

from pathlib import Path

import pytest

from a2a_events.settings import PREFIX, Settings

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_every_setting_is_in_the_readme(name: str) -> None:
    rows = [line for line in README.read_text().splitlines() if line.startswith("| `A2A_EVENTS_")]
    assert any(f"`{PREFIX}{name.upper()}`" in row for row in rows)
