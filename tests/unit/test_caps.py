"""How much callers may use: buckets, what gateways tell each other, and what may be counted together."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_events import limits
from a2a_events.bindings.caps.buckets import Buckets, Rate
from a2a_events.bindings.caps.budget import Allowance, Budget
from a2a_events.bindings.caps.caps import Caps, counted
from a2a_events.bindings.identity.access import Access
from a2a_events.bindings.identity.anonymous import Anonymous
from a2a_events.bindings.identity.api_keys import ApiKeys, Key, new_key, written
from a2a_events.bindings.identity.port import EVERYTHING, Identified, NotAuthenticated, Presented
from a2a_events.errors import TooManyRequestsError, UnavailableError
from a2a_events.metrics.catalog import USAGE_UNREADABLE
from a2a_events.services import identity
from a2a_events.settings import Settings

P = ParamSpec("P")

RATES = st.builds(Rate, st.floats(0.1, 1000), st.floats(1, 500))
PAUSES = st.floats(0, 20, allow_nan=False)


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(RATES, st.lists(PAUSES, max_size=200))
def test_a_bucket_never_grants_more_than_its_burst_and_what_has_dripped_in(rate: Rate, pauses: list[float]) -> None:
    buckets, now = Buckets(rate), 0.0
    granted: list[float] = []
    for pause in pauses:
        now += pause
        if not buckets.take("a", now):
            granted.append(now)
    for first, begun in enumerate(granted):
        for last in range(first, len(granted)):
            most = rate.burst + rate.per_second * (granted[last] - begun)
            assert last - first + 1 <= most + 1e-6 * (1 + most)


@given(RATES, st.lists(PAUSES, max_size=50))
def test_who_waits_for_as_long_as_was_said_is_granted_and_nobody_sooner(rate: Rate, pauses: list[float]) -> None:
    buckets, now = Buckets(rate), 0.0
    for pause in pauses:
        now += pause
        wait = buckets.take("a", now)
        if wait:
            assert buckets.take("a", now + wait * 0.99)
            now += wait * 1.01
            assert not buckets.take("a", now)


@given(RATES, st.lists(st.tuples(PAUSES, st.integers(0, 10**6)), max_size=50))
def test_no_charge_keeps_anybody_out_for_longer_than_a_debt_may_last(
    rate: Rate, charges: list[tuple[float, int]]
) -> None:
    buckets, now = Buckets(rate), 0.0
    for pause, tokens in charges:
        now += pause
        buckets.charge("a", tokens, now)
        wait = buckets.take("a", now)
        assert wait <= max(limits.DEBT_SECONDS, rate.burst / rate.per_second) + 1 / rate.per_second + 1e-6


def test_a_clock_that_goes_back_gives_nothing() -> None:
    buckets = Buckets(Rate(1, 1))
    assert not buckets.take("a", 10)
    assert buckets.take("a", 5) == pytest.approx(1)
    assert buckets.take("a", 10.5) == pytest.approx(0.5)


def test_a_flood_of_keys_takes_no_more_memory_than_is_given_and_the_newest_are_remembered() -> None:
    buckets = Buckets(Rate(1, 1), most=100)
    for number in range(10_000):
        assert not buckets.take(str(number), 0)
        assert len(buckets) <= 100
    assert buckets.take("9999", 0), "it is remembered"
    assert not buckets.take("0", 0), "it is forgotten, and full again"
    assert len(buckets) == 100


def who(tenant: str | None, subject: str = "alice") -> Identified:
    return Identified(subject=subject, tenant=tenant, scopes=EVERYTHING, method="test")


def made(clock: Clock, rate: Rate | None = None, streams: int = 0) -> Caps:
    return Caps(Allowance(rate, streams), Allowance(rate, streams), now=clock)


def tell(*gateways: Caps) -> list[bytes]:
    """Every gateway hears what every one has to say."""
    said = [announcement for caps in gateways for announcement in caps.announcements()]
    for caps in gateways:
        for announcement in said:
            caps.hear(announcement)
    return said


def allowed(ask: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> bool:
    try:
        ask(*args, **kwargs)
    except TooManyRequestsError:
        return False
    return True


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), min_size=1, max_size=60),
)
def test_all_gateways_together_keep_to_the_rate_but_for_what_they_have_not_heard_yet(
    count: int, asked: list[tuple[int, int]]
) -> None:
    """Bursts of one tenant at changing gateways, an announcement after each."""
    clock, rate = Clock(), Rate(4, 20)
    gateways = [made(clock, rate) for _ in range(count)]
    begun, granted = clock.now, 0
    for at, requests in asked:
        granted += sum(allowed(gateways[at % count].enter, who("acme")) for _ in range(requests))
        clock.now += limits.USAGE_SECONDS
        tell(*gateways)
    most = rate.burst + rate.per_second * (clock.now - begun)
    assert granted <= most, "one gateway at a time is asked, so the others have heard all"


def test_gateways_that_are_asked_at_the_same_time_owe_what_they_have_given_too_much() -> None:
    clock, rate = Clock(), Rate(20, 10)
    gateways = [made(clock, rate) for _ in range(4)]
    granted: list[int] = []
    for _ in range(200):
        granted.append(sum(allowed(caps.enter, who("acme")) for caps in gateways for _ in range(100)))
        tell(*gateways)
        clock.now += limits.USAGE_SECONDS
    assert granted[0] == 4 * rate.burst, "nobody had heard of it"
    unheard = 3 * (rate.burst + rate.per_second * limits.USAGE_SECONDS)
    assert sum(granted) <= rate.burst + rate.per_second * limits.USAGE_SECONDS * 200 + unheard
    assert sum(granted) >= 0.9 * rate.per_second * limits.USAGE_SECONDS * 200, "and they are not kept from their rate"


def test_other_tenants_and_addresses_are_not_affected() -> None:
    clock = Clock()
    one, other = made(clock, Rate(1, 3), 2), made(clock, Rate(1, 3), 2)
    while allowed(one.enter, who("acme")):
        pass
    while allowed(one.arrive, "198.51.100.7"):
        pass
    while allowed(one.open, who("acme"), ""):
        pass
    tell(one, other)
    assert not allowed(other.enter, who("acme"))
    assert not allowed(other.arrive, "198.51.100.7")
    assert not allowed(other.open, who("acme"), "")
    for caps in (one, other):
        assert allowed(caps.enter, who("umbrella"))
        assert allowed(caps.arrive, "198.51.100.8")
        assert allowed(caps.open, who("umbrella"), "198.51.100.8")


def test_who_is_of_no_tenant_counts_alone_and_who_is_nobody_not_at_all() -> None:
    caps = made(Clock(), Rate(1, 1))
    assert allowed(caps.enter, who("", "alice"))
    assert not allowed(caps.enter, who("", "alice"))
    assert allowed(caps.enter, who("", "bob"))
    assert all(allowed(caps.enter, who(None)) for _ in range(10))


def test_a_stream_that_ends_gives_its_place_back_at_every_gateway() -> None:
    clock = Clock()
    one, other = made(clock, streams=2), made(clock, streams=2)
    close = one.open(who("acme"), "198.51.100.7")
    one.open(who("acme"), "198.51.100.7")
    tell(one, other)
    assert not allowed(other.open, who("acme"), "")
    assert not allowed(other.open, who("umbrella"), "198.51.100.7")
    close()
    assert allowed(one.open, who("acme"), "")
    tell(one, other)
    assert allowed(other.open, who("umbrella"), "198.51.100.7"), "the address has one left"
    assert not allowed(other.open, who("acme"), ""), "the tenant has none"


def test_a_stream_that_the_tenant_may_not_open_takes_no_place_of_the_address() -> None:
    caps = Caps(Allowance(streams=1), Allowance(streams=2), now=Clock())
    caps.open(who("acme"), "198.51.100.7")
    for _ in range(5):
        assert not allowed(caps.open, who("acme"), "198.51.100.7")
    assert allowed(caps.open, who("umbrella"), "198.51.100.7")


def test_streams_of_a_gateway_that_is_gone_are_nobody_s() -> None:
    clock = Clock()
    one, other = made(clock, streams=1), made(clock, streams=1)
    one.open(who("acme"), "")
    tell(one, other)
    clock.now += limits.GATEWAY_SILENT_SECONDS - 0.1
    assert not allowed(other.open, who("acme"), "")
    clock.now += 0.2
    assert allowed(other.open, who("acme"), "")


def test_a_quiet_stream_counts_for_as_long_as_its_gateway_says_anything() -> None:
    clock = Clock()
    one, other = made(clock, streams=1), made(clock, streams=1)
    one.open(who("acme"), "")
    for _ in range(round(3 * limits.STREAMS_HEARD_SECONDS / limits.USAGE_SECONDS)):
        tell(one, other)
        clock.now += limits.USAGE_SECONDS
        assert not allowed(other.open, who("acme"), "")


def test_a_stream_whose_end_was_not_heard_of_is_forgotten() -> None:
    clock = Clock()
    one, other = made(clock, streams=1), made(clock, streams=1)
    close = one.open(who("acme"), "")
    tell(one, other)
    close()
    list(one.announcements())  # and nobody hears them
    for _ in range(round(limits.STREAMS_HEARD_SECONDS / limits.USAGE_SECONDS) + 2):
        clock.now += limits.USAGE_SECONDS
        tell(one, other)
    assert allowed(other.open, who("acme"), "")


def test_an_announcement_is_bounded_and_says_all_in_several() -> None:
    clock = Clock()
    one, other = made(clock, streams=1), made(clock, streams=1)
    tenants = [f"tenant-{number}" for number in range(3 * limits.USAGE_ENTRIES)]
    for number, tenant in enumerate(tenants):
        one.open(who(tenant), f"2001:db8:0:{number:x}::/64")
    said = tell(one, other)
    assert len(said) > 3
    assert max(map(len, said)) <= limits.USAGE_BYTES
    assert not any(allowed(other.open, who(tenant), "") for tenant in tenants)
    assert all(tenant not in announcement.decode() for announcement in said for tenant in ("tenant-", "alice"))


HOSTILE = {
    "nothing": b"",
    "no JSON": b"\xff\xfe{",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "no gateway": b"{}",
    "gateway of another kind": b'{"gateway":"../../etc/passwd0"}',
    "negative": b'{"gateway":"0123456789abcdef","tenants":{"a":[-1,0]}}',
    "huge": b'{"gateway":"0123456789abcdef","tenants":{"a":[1e300,0]}}',
    "fraction": b'{"gateway":"0123456789abcdef","tenants":{"a":[0.5,0]}}',
    "one number": b'{"gateway":"0123456789abcdef","tenants":{"a":[1]}}',
    "long key": b'{"gateway":"0123456789abcdef","tenants":{"' + b"a" * 1000 + b'":[1,1]}}',
    "long": msgspec.json.encode(
        {"gateway": "0123456789abcdef", "tenants": {f"t{number}": [1, 1] for number in range(50_000)}}
    ),
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE)
def test_an_announcement_that_cannot_be_read_is_counted_and_changes_nothing(payload: bytes) -> None:
    caps, before = made(Clock(), Rate(1, 1), 1), USAGE_UNREADABLE.value()
    caps.hear(payload)
    assert USAGE_UNREADABLE.value() == before + 1
    assert allowed(caps.enter, who("acme"))
    assert allowed(caps.open, who("acme"), "a")


def test_no_number_of_gateways_and_callers_that_are_made_up_fills_memory() -> None:
    clock = Clock()
    caps = Caps(Allowance(Rate(1, 1), 1), Allowance(Rate(1, 1), 1), now=clock)
    for gateway in range(limits.GATEWAYS_HEARD + 50):
        usage = {f"{gateway}-{number}": [1, 1] for number in range(20)}
        caps.hear(msgspec.json.encode({"gateway": f"{gateway:016x}", "tenants": usage, "addresses": usage}))
    for budget in (caps._tenants, caps._addresses):
        assert len(budget._others) == limits.GATEWAYS_HEARD
    clock.now += limits.GATEWAY_SILENT_SECONDS + 1
    tell(caps)
    for budget in (caps._tenants, caps._addresses):
        assert not budget._others


FAILURES = 10
"""Credentials of one address that may fail, of a burst of ten times as many requests."""


class Door:
    """A gate with keys before it, and a caller's address."""

    address = "198.51.100.7"

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.keys: list[str] = []
        lines: list[Key] = []
        for subject in ("alice", "bob"):
            key, line = new_key(subject)
            self.keys.append(key)
            lines.append(line)
        self.file = folder / "keys"
        self.file.write_bytes(written(lines))
        burst = FAILURES * limits.FAILED_CREDENTIAL_REQUESTS
        self.caps = Caps(None, Allowance(Rate(10.0, burst)), now=clock)
        self.access = Access(ApiKeys(self.file), caps=self.caps)

    async def says(self, key: str = "", address: str = address) -> str:
        """What somebody who brings this key is told."""
        brought = Presented(lambda name: [key] if key and name == "x-api-key" else [], address)
        try:
            return (await self.access.enter(brought, "JSONRPC")).subject
        except NotAuthenticated as refused:
            return refused.why
        except TooManyRequestsError:
            return "too many"


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REFUSALS_HELD", 0)
    monkeypatch.setattr(limits, "FILE_FRESH_SECONDS", 0.0)


@pytest.mark.usefixtures("_at_once")
async def test_who_guesses_is_kept_out_and_who_was_let_in_lately_from_there_is_not(tmp_path: Path) -> None:
    clock = Clock()
    door = Door(tmp_path, clock)
    alice, bob = door.keys
    assert await door.says(alice) == "alice"
    assert [await door.says(new_key("x")[0]) for _ in range(FAILURES)] == ["invalid"] * FAILURES
    assert await door.says(new_key("x")[0]) == "too many"
    assert await door.says(alice) == "alice"
    assert await door.says() == "missing", "nothing was guessed"
    assert await door.says(bob) == "too many", "nobody knows yet that it is good"
    assert await door.says(bob, "198.51.100.8") == "bob"
    assert await door.says(bob) == "bob"
    clock.now += limits.FAILED_CREDENTIAL_REQUESTS / 10.0
    assert await door.says(new_key("x")[0]) == "invalid", "one in a tenth of the rate"
    assert await door.says(new_key("x")[0]) == "too many"


@pytest.mark.usefixtures("_at_once")
async def test_a_request_without_a_credential_counts_as_one(tmp_path: Path) -> None:
    door = Door(tmp_path, Clock())
    burst = FAILURES * limits.FAILED_CREDENTIAL_REQUESTS
    assert {await door.says() for _ in range(burst - 1)} == {"missing"}
    assert await door.says(door.keys[0]) == "alice"
    assert await door.says(door.keys[0]) == "too many"


@pytest.mark.usefixtures("_at_once")
async def test_credentials_that_are_accepted_cost_no_failures_and_one_that_is_withdrawn_is_forgotten(
    tmp_path: Path,
) -> None:
    door = Door(tmp_path, Clock())
    alice, bob = door.keys
    assert {await door.says(key) for key in (alice, bob) * FAILURES} == {"alice", "bob"}
    door.file.write_bytes(b"\n".join(line for line in door.file.read_bytes().splitlines() if b"bob" in line))
    assert [await door.says(alice) for _ in range(FAILURES)] == ["invalid"] * FAILURES
    assert await door.says(alice) == "too many"
    assert await door.says(bob) == "bob"


@pytest.mark.usefixtures("_at_once")
async def test_many_credentials_that_wait_to_be_checked_are_bounded_and_leave_no_debt() -> None:
    class Waiting(Anonymous):
        """Knows nobody, once it is allowed to look."""

        async def authenticate(self, presented: Presented) -> Identified:
            await looked.wait()
            raise NotAuthenticated("invalid")

    looked, clock = asyncio.Event(), Clock()
    caps = Caps(None, Allowance(Rate(10_000.0, 10_000)), now=clock)
    access = Access(Waiting(), caps=caps)

    async def ask(number: int) -> str:
        brought = Presented(lambda name: [f"Bearer {number}"] if name == "authorization" else [], "198.51.100.7")
        try:
            await access.enter(brought, "JSONRPC")
        except NotAuthenticated:
            return "looked at"
        except TooManyRequestsError:
            return "too many"
        return "let in"

    asking = [asyncio.create_task(ask(number)) for number in range(3000)]
    await asyncio.sleep(0)
    looked.set()
    told = Counter(await asyncio.gather(*asking))
    assert told == {"looked at": 1000, "too many": 2000}
    clock.now += 2 * limits.FAILED_CREDENTIAL_REQUESTS / 10_000.0
    assert await ask(3001) == "looked at"


def test_a_check_that_could_not_be_made_is_nobody_s_failure() -> None:
    caps = Caps(None, Allowance(Rate(1.0, 10)), now=Clock())
    for _ in range(3):
        with pytest.raises(UnavailableError), caps.checking("198.51.100.7", 1):
            raise UnavailableError("The keys cannot be had now")


@pytest.mark.parametrize(
    ("address", "as_what"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", ""),
        ("127.8.8.8", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("", ""),
        ("unknown", "unknown"),
        ("x" * 1000, "x" * limits.ADDRESS_CHARACTERS),
    ],
)
def test_what_an_address_counts_as(address: str, as_what: str) -> None:
    assert counted(address, local=True) == as_what


@pytest.mark.parametrize(
    ("address", "as_what"),
    [
        ("127.0.0.6", "127.0.0.6"),
        ("::ffff:127.0.0.6", "127.0.0.6"),
        ("::1", "::/64"),
        ("198.51.100.7", "198.51.100.7"),
        ("", ""),
    ],
)
def test_what_an_address_counts_as_where_others_are_served_too(address: str, as_what: str) -> None:
    assert counted(address, local=False) == as_what


@pytest.mark.parametrize(
    ("host", "trusted", "counts"),
    [
        ("127.0.0.1", "", False),
        ("localhost", "", False),
        ("0.0.0.0", "", True),  # noqa: S104 -- nobody listens
        ("::", "", True),
        ("192.0.2.7", "", True),
        ("0.0.0.0", "127.0.0.0/8", False),  # noqa: S104 -- as above
    ],
)
async def test_a_sidecar_that_is_not_listed_is_one_address(
    host: str, trusted: str, counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REFUSALS_HELD", 0)
    settings = Settings(host=host, allow_anonymous=True, trusted_proxies=trusted, rate_per_address=0.001)
    access = identity.access(msgspec.structs.replace(settings, rate_per_address_burst=1))
    asked = Presented(lambda _: [], "127.0.0.6")
    await access.enter(asked, "JSONRPC")
    if not counts:
        await access.enter(asked, "JSONRPC")
        return
    with pytest.raises(TooManyRequestsError):
        await access.enter(asked, "JSONRPC")


async def test_refusals_are_held_back_a_moment_but_only_so_many() -> None:
    access = Access(caps=Caps(None, Allowance(Rate(0.001, 1))))
    asked = Presented(lambda _: [], "198.51.100.7")
    await access.enter(asked, "JSONRPC")
    begun = time.monotonic()
    asking = [asyncio.create_task(access.enter(asked, "JSONRPC")) for _ in range(limits.REFUSALS_HELD + 10)]
    done, held = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 10
    assert len(held) == limits.REFUSALS_HELD
    refusals = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(refusal, TooManyRequestsError) for refusal in refusals)
    assert time.monotonic() - begun >= limits.REFUSAL_PAUSE_SECONDS / 2
    again = asyncio.create_task(access.arrive(asked))
    await asyncio.wait([again], timeout=0.01)
    assert not again.done(), "places were given back"
    await asyncio.gather(again, return_exceptions=True)


def test_streams_that_nobody_counts_are_not_remembered() -> None:
    budget = Budget(Allowance())
    for number in range(100):
        assert budget.open(str(number), 0.0)
        budget.close(str(number))
    assert [] == list(budget.news(everything=True))
