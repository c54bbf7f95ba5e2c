"""Settings about regions."""

from __future__ import annotations

import pytest

from a2a_events.settings import Settings, SettingsError, load


def test_regions_name_logs_and_domains_and_the_own_log_is_none_of_the_others() -> None:
    settings = load(environment={"A2A_EVENTS_LOG": "eu", "A2A_EVENTS_REGIONS": "eu=hub-eu, us=hub-us"})
    assert settings.other_logs == {"us": "hub-us"}
    homes = Settings(log="eu", regions="us=hub-us", tenant_homes="acme=us,*=eu").homes
    assert homes == {"acme": "us", "*": "eu"}


def test_domains_are_those_of_all_regions_each_once() -> None:
    assert Settings(log="eu", regions="eu=hub-eu,us=hub-us,ap=hub-ap").domains == {"hub-eu", "hub-us", "hub-ap"}
    assert Settings(log="eu2", regions="eu=hub-us,us=hub-us,eu2=hub-eu").domains == {"hub-eu", "hub-us"}
    assert Settings().domains == set()


@pytest.mark.parametrize("regions", ["us", "us=", "=hub", "us=a,us=b", "US=hub", "us=hub.us", "us=*"])
def test_malformed_regions_are_refused(regions: str) -> None:
    with pytest.raises(SettingsError, match="A2A_EVENTS_REGIONS"):
        _ = Settings(log="eu", regions=regions).other_logs


def test_a_tenant_s_home_must_be_a_log_of_some_region() -> None:
    with pytest.raises(SettingsError, match="no region"):
        _ = Settings(log="eu", regions="us=hub-us", tenant_homes="acme=ap").homes
