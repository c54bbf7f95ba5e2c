"""``provision`` and ``provision --check``: words, and exit codes."""

from __future__ import annotations

import asyncio

import pytest

from a2a_events.log.jetstream import Names
from a2a_events.services.connect import connection
from a2a_events.settings import Settings
from tests.cli.commands import run_here

pytestmark = pytest.mark.integration


def test_check_says_what_is_missing_and_what_somebody_changed(
    nats_url: str, namespace_of_a_test: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--nats", nats_url, "--namespace", namespace_of_a_test, "--shards", "1", "--agent", "greet"]
    names = Names(namespace_of_a_test)
    assert run_here("provision", "--check", *where) == 1
    assert f"missing   {names.log_stream('main', 0)}\n" in capsys.readouterr().out
    assert run_here("provision", *where) == 0
    assert f"created   {names.log_stream('main', 0)}/worker-greet\n" in capsys.readouterr().out
    assert run_here("provision", "--check", *where) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {"verified"}

    stream = names.snapshot_stream("main")

    async def operator() -> None:
        async with connection(Settings(nats=nats_url), "test") as made:
            config = (await made.api(f"STREAM.INFO.{stream}"))["config"]
            await made.api(f"STREAM.UPDATE.{stream}", config | {"max_msgs_per_subject": 3})

    asyncio.run(operator())
    assert run_here("provision", "--check", *where) == 1
    said = capsys.readouterr()
    assert f"drifted   {stream}\n" in said.out
    assert f"stream {stream} has max_msgs_per_subject 3 where 1 is needed" in said.err
    assert run_here("provision", *where) == 1
    assert "set it back to 1 by an update" in capsys.readouterr().err


def test_the_name_of_an_agent_is_no_subject(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("provision", "--agent", "a.>") == 2
    assert "is not the name of an agent" in capsys.readouterr().err
