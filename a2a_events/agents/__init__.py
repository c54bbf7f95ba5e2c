"""Demo agents: ``echo``, and ``scripted``, which does what a data part of the message says.

Tests, benchmarks and fault runs use them.
"""

from __future__ import annotations

from a2a_events.agents.echo import echo
from a2a_events.agents.scripted import scripted

__all__ = ["echo", "scripted"]
