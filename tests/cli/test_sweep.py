"""``sweep``: what interrupted writers left behind is removed, and counted."""

from __future__ import annotations

import asyncio

import pytest

from a2a_events import limits
from a2a_events.services.connect import jetstream_log
from a2a_events.settings import Settings
from tests.cli.commands import run_here
from tests.contract.logs import new_task, offered

pytestmark = pytest.mark.integration


def test_what_a_killed_writer_left_is_removed_once_it_is_old(
    nats_url: str, namespace_of_a_test: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--nats", nats_url, "--namespace", namespace_of_a_test]
    assert run_here("provision", *where) == 0

    async def interrupted() -> None:
        async with jetstream_log(Settings(nats=nats_url, namespace=namespace_of_a_test), "test") as (log, _):
            await log._content.store(new_task(log), offered(0, size=limits.RECORD_BYTES))

    asyncio.run(interrupted())
    capsys.readouterr()

    assert run_here("sweep", *where) == 0
    assert capsys.readouterr().out == "removed 0, nudged 0\n"
    monkeypatch.setattr("a2a_events.services.sweep.SWEEP_SECONDS", -1.0)
    assert run_here("sweep", *where) == 0
    assert capsys.readouterr().out == "removed 1, nudged 0\n"


def test_sweeping_what_was_never_provisioned_says_what_to_do(
    nats_url: str, namespace_of_a_test: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here("sweep", "--nats", nats_url, "--namespace", namespace_of_a_test) == 3
    assert "a2a-events provision" in capsys.readouterr().err
