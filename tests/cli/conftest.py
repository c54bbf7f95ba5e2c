from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from a2a_events.settings import PREFIX
from a2a_events.testing import remove_streams, unique_namespace
from tests.cli.commands import Command


@pytest.fixture(autouse=True)
def _settings_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts commands in a folder of the test's own, and leaves none running."""
    with ExitStack() as stack:

        def starting(*arguments: str, **environment: str) -> Command:
            return stack.enter_context(closing(Command(*arguments, folder=tmp_path, environment=environment)))

        yield starting


@pytest.fixture
def namespace_of_a_test(nats_url: str) -> Iterator[str]:
    """As ``namespace``, for tests without an event loop of their own."""
    name = unique_namespace()
    yield name
    asyncio.run(remove_streams(nats_url, name))


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that run in this process must not bind its loggers to a standard error that is gone when they end."""
    monkeypatch.setattr("a2a_events.services.logs.configure", lambda *_: None)
