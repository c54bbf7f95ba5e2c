"""``nats-permissions``: how users sign in, and what is refused; what it grants is tried in tests/integration."""

from __future__ import annotations

import pytest

from tests.cli.commands import run_here


def test_a_user_signs_in_with_a_password_or_an_nkey(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("nats-permissions", "--shards", "1", "--nkey", "worker=UABC", "--namespace", "team.a2a") == 0
    out = capsys.readouterr().out
    assert "{ user: gateway, password: $TEAM_A2A_GATEWAY_PASSWORD, permissions: $TEAM_A2A_GATEWAY }" in out
    assert "{ nkey: UABC, permissions: $TEAM_A2A_WORKER }" in out
    assert '"team.a2a.log.main.>"' in out


def test_workers_of_some_agents_may_take_the_work_of_these_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("nats-permissions", "--shards", "1", "--agent", "greet") == 0
    out = capsys.readouterr().out
    assert '"$JS.API.CONSUMER.MSG.NEXT.A2A_LOG_main_0.worker-greet"' in out
    assert "MSG.NEXT.A2A_LOG_main_0.*" not in out


@pytest.mark.parametrize("wrong", [("--nkey", "king=UABC"), ("--nkey", "worker"), ("--agent", "a.>")])
def test_what_is_no_role_key_or_name_is_refused(wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("nats-permissions", *wrong) == 2
    assert "is not" in capsys.readouterr().err
