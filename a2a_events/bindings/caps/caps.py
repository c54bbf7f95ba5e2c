"""What bindings ask before they do anything: whether an address, a tenant or a stream is one too many."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import os
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Annotated, Final, TypeAlias

import msgspec
import structlog
from msgspec import Meta, Struct

from a2a_events import audit, limits
from a2a_events.bindings.caps.buckets import Buckets, Rate
from a2a_events.bindings.caps.budget import Allowance, Budget, Used
from a2a_events.bindings.identity.port import Identified, NotAuthenticated
from a2a_events.errors import TooManyRequestsError
from a2a_events.metrics.catalog import RATE_LIMITED, USAGE_UNREADABLE
from a2a_events.timeline.ids import token

_Count: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000)]
_Usage: TypeAlias = dict[Annotated[str, Meta(max_length=limits.ADDRESS_CHARACTERS)], tuple[_Count, _Count]]

_EVERYTHING_EVERY: Final = round(limits.STREAMS_HEARD_SECONDS / 3 / limits.USAGE_SECONDS)
"""Announcements between two that name every open stream: two of these may be lost."""

logger = structlog.get_logger(__name__)


class _Announcement(Struct, frozen=True, omit_defaults=True):
    """What one gateway has used since its last one. Tenants are named by their tokens, as in subjects."""

    gateway: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    tenants: _Usage = {}
    addresses: _Usage = {}


_decoder = msgspec.json.Decoder(_Announcement)


class Caps:
    """What tenants and addresses may use, at this gateway and at all that are heard.

    Args:
        tenants: the allowance of each tenant.
        addresses: that of each client address.
        now: the clock, seconds; never goes back.
    """

    def __init__(
        self,
        tenants: Allowance | None = None,
        addresses: Allowance | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        tenants, addresses = tenants or Allowance(), addresses or Allowance()
        self._tenants = Budget(tenants)
        self._addresses = Budget(addresses)
        rate = addresses.rate
        share = limits.FAILED_CREDENTIAL_REQUESTS
        self._failures = Buckets(Rate(rate.per_second / share, max(1.0, rate.burst / share))) if rate else None
        self._accepted: OrderedDict[int, None] = OrderedDict()
        """Credentials that were accepted lately."""
        self._now = now
        self._gateway = os.urandom(8).hex()
        self._announced = 0
        self._held_back = 0
        self.any = tenants != Allowance() or addresses != Allowance()
        """Whether there is anything to share with other gateways."""
        self.heard_itself_at = 0.0
        """When an announcement of this gateway came back from the broker, by ``now``; 0: none did."""

    def arrive(self, address: str) -> None:
        """A request has come, and nobody knows yet whose it is.

        Args:
            address: as :func:`counted` has it; empty: not counted.

        Raises:
            TooManyRequestsError: the address has sent too many.
        """
        if address and (wait := self._addresses.spend(address, self._now())):
            raise _too_many("address_rate", "requests from this address", wait, address=address)

    @contextmanager
    def checking(self, address: str, credential: int) -> Generator[None]:
        """A credential is looked at, and is accepted unless that raises.

        Each address may bring so many that are not accepted. One that nobody has seen takes its place among them until
        it is accepted, so that those that are looked at together are bounded too. One that was accepted lately needs
        none: who guesses keeps those out that come for the first time, and not who was in already.

        Args:
            address: as :func:`counted` has it; empty: not counted.
            credential: stands for it; 0: there is none, and so nothing to guess with.

        Raises:
            TooManyRequestsError: too many of the address were not accepted.
        """
        if not (address and credential) or self._failures is None:
            yield
            return
        known = credential in self._accepted
        if not known and (wait := self._failures.take(address, self._now())):
            what = "credentials from this address were not accepted"
            raise _too_many("address_rate", what, wait, address=address)
        try:
            yield
        except NotAuthenticated:
            self._accepted.pop(credential, None)
            if known:
                self._failures.take(address, self._now())
            raise
        except BaseException:
            if not known:
                self._failures.charge(address, -1, self._now())
            raise
        if not known:
            self._failures.charge(address, -1, self._now())
            if len(self._accepted) >= limits.CREDENTIALS_REMEMBERED:
                self._accepted.popitem(last=False)
        self._accepted[credential] = None
        self._accepted.move_to_end(credential)

    def enter(self, who: Identified) -> None:
        """It is a request of somebody who is known.

        Raises:
            TooManyRequestsError: the tenant has sent too many.
        """
        key = _key(who)
        if key and (wait := self._tenants.spend(key, self._now())):
            raise _too_many("tenant_rate", "requests of this tenant", wait, **_of(who))

    def weigh(self, who: Identified, address: str, requests: int) -> None:
        """What was sent takes as much work as so many more requests."""
        if requests:
            now = self._now()
            if address:
                self._addresses.charge(address, requests, now)
            if key := _key(who):
                self._tenants.charge(key, requests, now)

    @staticmethod
    def payer(who: Identified, address: str) -> str:
        """Whose share of this gateway's memory a request takes: the tenant's, or where there is none the address's.

        Args:
            who: asks.
            address: as :func:`counted` has it.

        Returns:
            A name; empty: nobody's.
        """
        return _key(who) or address

    async def hold_back(self) -> None:
        """Wait a moment before a request is refused for being too soon, unless too many wait already.

        Who does not wait by themselves asks on each connection once in this time, and not thousands of times.
        """
        if self._held_back >= limits.REFUSALS_HELD:
            return
        self._held_back += 1
        try:
            # By chance, or all that are held back would come again together and take what has dripped in meanwhile.
            await asyncio.sleep(limits.REFUSAL_PAUSE_SECONDS * (0.5 + random.random()))  # noqa: S311 -- no secret
        finally:
            self._held_back -= 1

    def open(self, who: Identified, address: str) -> Callable[[], None]:
        """A stream is to be opened.

        Returns:
            What gives its place back; to be called once.

        Raises:
            TooManyRequestsError: the tenant or the address has too many; none is opened.
        """
        key, now = _key(who), self._now()
        if address and not self._addresses.open(address, now):
            what = "open streams of this address"
            raise _too_many("address_streams", what, limits.STREAMS_RETRY_SECONDS, address=address)
        if key and not self._tenants.open(key, now):
            if address:
                self._addresses.close(address)
            what = "open streams of this tenant"
            raise _too_many("tenant_streams", what, limits.STREAMS_RETRY_SECONDS, **_of(who))

        def close() -> None:
            if address:
                self._addresses.close(address)
            if key:
                self._tenants.close(key)

        return close

    def announcements(self) -> Iterator[bytes]:
        """What other gateways should hear now; to be called every ``limits.USAGE_SECONDS``. At least a sign of life."""
        now = self._now()
        self._tenants.forget_silent(now)
        self._addresses.forget_silent(now)
        everything = self._announced % _EVERYTHING_EVERY == 0
        self._announced += 1
        tenants = self._tenants.news(everything=everything)
        addresses = self._addresses.news(everything=everything)
        first = True
        while True:
            some = dict(islice(tenants, limits.USAGE_ENTRIES))
            more = dict(islice(addresses, limits.USAGE_ENTRIES - len(some)))
            if not (some or more or first):
                return
            first = False
            yield msgspec.json.encode(_Announcement(self._gateway, some, more))

    def hear(self, payload: bytes) -> None:
        """An announcement of any gateway. One that cannot be read is counted, and changes nothing."""
        try:
            if len(payload) > limits.USAGE_BYTES:
                raise msgspec.ValidationError("too long")
            said = _decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            USAGE_UNREADABLE.inc()
            logger.debug("announcement not read", error=str(error))
            return
        now = self._now()
        if said.gateway == self._gateway:
            self.heard_itself_at = now
            return
        self._tenants.hear(said.gateway, said.tenants, now)
        self._addresses.hear(said.gateway, said.addresses, now)


def counted(address: str, *, local: bool) -> str:
    """What an address is counted as; empty: not at all.

    Who has one address of IPv6 has 2^64: they count as one.

    Args:
        address: of a client.
        local: nobody but this machine is served. Then it is the operator's own, and is not counted. Elsewhere a sidecar
            may bring everybody from a loopback address.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[: limits.ADDRESS_CHARACTERS]
    found = getattr(found, "ipv4_mapped", None) or found
    if local and found.is_loopback:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
    return str(found)


def _key(who: Identified) -> str:
    """Who is counted together: a tenant; a caller without one alone; nobody where nobody is asked who they are."""
    if who.tenant is None:
        return ""
    return token(who.tenant or f"\0{who.subject}")


def _of(who: Identified) -> dict[str, str]:
    """Who is counted, as the audit log has it: of a tenant all together, whoever of them it is now."""
    return {"tenant": who.tenant} if who.tenant else {"subject": who.subject}


def _too_many(reason: str, what: str, wait: float, **of: str) -> TooManyRequestsError:
    RATE_LIMITED.inc(reason)
    audit.limited(reason, **of)
    seconds = max(1, math.ceil(wait))
    return TooManyRequestsError(
        f"Too many {what}; nothing was done, please retry in {seconds} s",
        retry_after_seconds=seconds,
        metadata=TooManyRequestsError.UNTOUCHED,
    )


__all__ = ["Allowance", "Caps", "Used", "counted"]
