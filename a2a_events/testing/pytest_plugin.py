"""Bundles as tests, by configuration alone: pytest collects them once it is told where they are and whose they are.

::

    [tool.pytest]
    a2a_events_bundles = ["tests/bundles"]
    a2a_events_agent = ["agents:greet"]

Every ``*.bundle.jsonl`` in these folders is a test: the agent is run against the record (``testing.assert_replays``).
Where there are several agents, say whose is whose: ``a2a_events_agent = ["greet = agents:greet", "pay = agents:pay"]``.
A bundle whose content was removed is folded at every revision instead.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from a2a_events.timeline.bundle import Bundle

SUFFIX: Final = ".bundle.jsonl"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Name the settings."""
    parser.addini("a2a_events_bundles", "folders whose *.bundle.jsonl are tests", type="paths", default=[])
    parser.addini(
        "a2a_events_agent", "the agent to run, module:attr; or several, name = module:attr", type="linelist", default=[]
    )
    parser.addini("a2a_events_ignore", "paths within events that may differ", type="linelist", default=[])
    parser.addini("a2a_events_merge_chunks", "compare whole artifacts only", type="bool", default=False)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A bundle in one of the folders is a test."""
    folders: list[Path] = parent.config.getini("a2a_events_bundles")
    if not file_path.name.endswith(SUFFIX) or not any(folder in file_path.parents for folder in folders):
        return None
    made: pytest.Collector = BundleFile.from_parent(parent, path=file_path)  # pyright: ignore[reportUnknownMemberType] -- pytest does not say
    return made


class BundleFile(pytest.File):
    """One bundle."""

    def collect(self) -> Iterator[pytest.Item]:
        """Its test."""
        yield BundleItem.from_parent(self, name="replay")  # pyright: ignore[reportUnknownMemberType] -- pytest does not say


class BundleItem(pytest.Item):
    """Runs the agent against the bundle."""

    def runtest(self) -> None:
        """Compare.

        Raises:
            AssertionError: the agent does something else now.
            UsageError: no agent is named for this bundle, or it cannot be imported.
        """
        from a2a_events.testing.bundles import assert_replays, fold_every_prefix, load_bundle  # noqa: PLC0415 -- most runs of pytest hold no bundle; likewise below
        from a2a_events.timeline.bundle import without_content  # noqa: PLC0415
        from a2a_events.timeline.comparison import Tolerance  # noqa: PLC0415

        bundle = load_bundle(self.path)
        if without_content(bundle):
            fold_every_prefix(bundle)
            return
        config = self.config
        tolerance = Tolerance(
            ignore=tuple(config.getini("a2a_events_ignore")), merge_chunks=config.getini("a2a_events_merge_chunks")
        )
        assert_replays(bundle, _agent_of(bundle, config), tolerance=tolerance)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """A difference is told by itself; where in this library it was found interests nobody."""
        if isinstance(excinfo.value, AssertionError | pytest.UsageError | ValueError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """What pytest calls it."""
        return self.path, None, f"replay of {self.path.name}"


def _agent_of(bundle: Bundle, config: pytest.Config) -> object:
    lines: list[str] = config.getini("a2a_events_agent")
    named = {name.strip(): value.strip() for name, equals, value in (line.partition("=") for line in lines) if equals}
    any_agent = [line.strip() for line in lines if "=" not in line]
    specification = named.get(bundle.task.agent) or (any_agent[0] if any_agent else "")
    module, colon, attribute = specification.partition(":")
    if not colon:
        raise pytest.UsageError(
            f"no agent for a task of {bundle.task.agent!r}: set a2a_events_agent to module:attr,"
            f" or add a line {bundle.task.agent} = module:attr"
        )
    if str(config.rootpath) not in sys.path:
        sys.path.insert(0, str(config.rootpath))
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise pytest.UsageError(f"a2a_events_agent {specification}: {error}") from None
