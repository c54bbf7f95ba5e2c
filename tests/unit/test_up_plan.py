"""What `up` gives to each of its services."""

from __future__ import annotations

import pytest

from a2a_events.services.up import Plan, planned
from a2a_events.settings import Settings


@pytest.mark.parametrize(("port", "expected"), [(9090, [9090, 9091, 9092, 9093, 9094, 9095, 9096]), (0, [0] * 7)])
def test_no_two_services_have_the_same_admin_port(port: int, expected: list[int]) -> None:
    settings = Settings(admin_port=port)
    plan = Plan(settings=settings, workers=2, gateways=3)
    services = planned(plan, settings, [settings] * 3)
    assert [role for _, role, _ in services] == ["worker"] * 2 + ["gateway"] * 3 + ["timeline-page", "notifier"]
    assert [own.admin_port for _, _, own in services] == expected
