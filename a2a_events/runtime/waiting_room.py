"""Deliveries that wait for a turn, and whose is next: tenants take turns, however much one of them asks for (ADR 0019).

The broker hands out in the order of the log. So a worker that is busy takes more than it can run, to see the one task
behind a thousand. What waits here has no owner: it is queued, and nothing is written of it. A sign keeps
the broker from offering it elsewhere, but only while this worker is going to get to it. The rest is *let go*: no ack,
no nak (turns 4.8), so that it comes back after the ack wait, to whoever is free.

Pure: times come as arguments, in seconds of a steady clock.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final, Generic, TypeAlias, TypeVar

from a2a_events import limits
from a2a_events.log.port import Handle
from a2a_events.timeline.ids import TaskRef

DIG_DELIVERIES: Final = 256
"""How many more a full room takes at a time, to see what is behind them; as many are let go."""
DELIVERY_BYTES: Final = 2048
"""What a delivery costs beside its payload, about."""

Key: TypeAlias = tuple[TaskRef, int]
A = TypeVar("A")


class Waiting(Generic[A]):
    """A delivery that waits."""

    __slots__ = ("agent", "arrived", "bytes", "handle", "rank", "signed")

    def __init__(self, agent: A, handle: Handle, rank: tuple[float, int], now: float) -> None:
        self.agent = agent
        self.handle = handle
        self.rank = rank
        """Since when the record waits for any worker, as far as this one can know, and the number of its arrival."""
        self.arrived = now
        self.signed = now
        """When the broker last began to count the ack wait."""
        self.bytes = len(handle.record.payload) + DELIVERY_BYTES

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self.handle.task.tenant

    @property
    def key(self) -> Key:
        """The record, whichever delivery of it this is."""
        return self.handle.task, self.handle.record.position


class _Tenant(Generic[A]):
    """What waits and what runs of one tenant."""

    __slots__ = ("bytes", "known", "running", "waiting")

    def __init__(self) -> None:
        self.waiting: list[Waiting[A]] = []
        """By rank: the oldest first."""
        self.known: dict[Key, Waiting[A]] = {}
        self.bytes = 0
        self.running = 0

    def add(self, one: Waiting[A]) -> None:
        insort(self.waiting, one, key=_rank)
        self.known[one.key] = one
        self.bytes += one.bytes

    def remove(self, one: Waiting[A]) -> None:
        del self.waiting[bisect_left(self.waiting, one.rank, key=_rank)]
        del self.known[one.key]
        self.bytes -= one.bytes


def _rank(one: Waiting[A]) -> tuple[float, int]:
    return one.rank


class WaitingRoom(Generic[A]):
    """The deliveries that one worker has and does not run yet.

    Args:
        turns: how many the worker runs at once.
        ack_wait_seconds: after which the broker offers a delivery elsewhere.
        deliveries: most that wait.
        bytes: most that they hold.
    """

    def __init__(
        self,
        turns: int,
        ack_wait_seconds: float,
        *,
        deliveries: int = limits.WAITING_DELIVERIES,
        bytes: int = limits.WAITING_BYTES,  # noqa: A002 -- the unit
    ) -> None:
        self._turns = turns
        self._ack_wait_seconds = ack_wait_seconds
        self._sign_seconds = ack_wait_seconds / 3
        self._most = deliveries
        self._most_bytes = bytes
        self._tenants: OrderedDict[str, _Tenant[A]] = OrderedDict()
        """Those of whom something waits or runs; who was served longest ago is first."""
        self._count = 0
        self._bytes = 0
        self._arrivals = 0
        self._sizes: list[tuple[int, str]] = []
        """Heap of (minus the number that wait, tenant); at least one true entry for each tenant that waits."""
        self._busy_since = 0.0
        """Since when something waits without a break."""
        self._ends: deque[float] = deque()
        """When turns ended since then, within the last third of an ack wait."""

    def __len__(self) -> int:
        return self._count

    # --- in and out ---------------------------------------------------------------------------------------------------

    def enter(self, agent: A, handle: Handle, now: float) -> list[Waiting[A]]:
        """A delivery came. While there is too much, the tenant that holds most loses its newest: those are returned."""
        # Each delivery before this one was at least an ack wait before the next: it takes its old place again.
        self._arrivals += 1
        rank = (now - (handle.count - 1) * self._ack_wait_seconds, self._arrivals)
        one = Waiting(agent, handle, rank, now)
        tenant = self._tenants.get(one.tenant)
        if tenant is not None and (known := tenant.known.get(one.key)) is not None:
            known.handle, known.signed = handle, now  # our signs were lost: the newest delivery is the one that counts
            return []
        if tenant is None:
            tenant = self._tenants[one.tenant] = _Tenant()
        if not self._count:
            self._busy_since = now
            self._ends.clear()
        tenant.add(one)
        self._count += 1
        self._bytes += one.bytes
        self._note_size(one.tenant, tenant)
        gone: list[Waiting[A]] = []
        while self._count > 1 and (self._count > self._most or self._bytes > self._most_bytes):
            gone.append(self._remove(self._tenants[self._largest()].waiting[-1]))
        return gone

    def next(self, now: float) -> Waiting[A] | None:
        """The one to run now; it counts as running until :meth:`ended`.

        It is the oldest of the tenant with the fewest running turns; of several such tenants the one that was served
        longest ago is next.
        """
        while self._count:
            name = self._neediest()
            tenant = self._tenants[name]
            one = tenant.waiting[0]
            if self._stale(one, now):
                self._remove(one)
                continue
            tenant.running += 1
            self._remove(one)
            self._tenants.move_to_end(name)
            return one
        return None

    def ended(self, tenant: str, now: float) -> None:
        """A turn that :meth:`next` gave out is over."""
        if self._count:
            self._ends.append(now)
        self._tenants[tenant].running -= 1
        self._forget_idle(tenant)

    def leave(self, waiting: Iterable[Waiting[A]]) -> None:
        """Let go of deliveries, if they still wait."""
        for one in waiting:
            tenant = self._tenants.get(one.tenant)
            if tenant is not None and tenant.known.get(one.key) is one:
                self._remove(one)

    # --- how much to hold ---------------------------------------------------------------------------------------------

    def appetite(self, now: float) -> int:
        """How many more deliveries to take.

        A full room goes on taking, to see what is behind, unless what its largest tenant has here is run before what
        would be let go for it were back: then this worker would stand idle in between.
        """
        if self._count < self._most and self._bytes < self._most_bytes:
            return self._most - self._count
        return DIG_DELIVERIES if len(self._tenants[self._largest()].waiting) >= self._pace(now) else 0

    def due(self, now: float) -> list[Waiting[A]]:
        """Those that need a sign now. What this worker would not get to within an ack wait is let go instead.

        To be called several times in each third of the ack wait. What a worker gets to is known from how many turns
        have ended lately. Where turns are so long that this says little, it holds as many as it runs at once, and none
        for longer than the ack wait: another worker may have come that is free.
        """
        pace = self._pace(now)
        each = self._each_keeps(max(self._turns, int(pace)))
        due: list[Waiting[A]] = []
        gone: list[Waiting[A]] = []
        for tenant in self._tenants.values():
            for place, one in enumerate(tenant.waiting):
                if now - one.signed < self._sign_seconds:
                    continue
                outstayed = pace < self._turns and now - one.arrived > self._ack_wait_seconds
                if place >= each or outstayed or self._stale(one, now):
                    gone.append(one)
                else:
                    one.signed = now
                    due.append(one)
        self.leave(gone)
        return due

    def _pace(self, now: float) -> float:
        """Turns that end within an ack wait, going by the last third of one, or by what there is of it."""
        while self._ends and now - self._ends[0] > self._sign_seconds:
            self._ends.popleft()
        seconds = min(self._sign_seconds, now - self._busy_since)
        return len(self._ends) * self._ack_wait_seconds / seconds if seconds > 0 else 0.0

    def _each_keeps(self, most: int) -> int:
        """The number such that not more than this many are left if no tenant keeps more than it; at least one."""
        sizes = sorted(len(tenant.waiting) for tenant in self._tenants.values() if tenant.waiting)
        for place, size in enumerate(sizes):
            share = most // (len(sizes) - place)
            if size > share:
                return max(1, share)
            most -= size
        return self._most

    def _stale(self, one: Waiting[A], now: float) -> bool:
        """Whether signs are so overdue that the broker may have offered it elsewhere by the time it is claimed."""
        return now - one.signed > 2 * self._sign_seconds

    # --- books --------------------------------------------------------------------------------------------------------

    def _neediest(self) -> str:
        fewest, found = -1, ""
        for name, tenant in self._tenants.items():
            if tenant.waiting and (fewest < 0 or tenant.running < fewest):
                fewest, found = tenant.running, name
                if not fewest:
                    break  # those with running turns are not more than there are turns, so this is soon found
        return found

    def _largest(self) -> str:
        """The tenant that holds most, in number, or in bytes if those are what there is too much of."""
        if self._bytes >= self._most_bytes:
            return max(self._tenants, key=lambda name: self._tenants[name].bytes)
        while True:
            size, name = self._sizes[0]
            tenant = self._tenants.get(name)
            there = len(tenant.waiting) if tenant is not None else 0
            if there == -size:
                return name
            if there:
                heapq.heapreplace(self._sizes, (-there, name))
            else:
                heapq.heappop(self._sizes)

    def _note_size(self, name: str, tenant: _Tenant[A]) -> None:
        heapq.heappush(self._sizes, (-len(tenant.waiting), name))
        if len(self._sizes) > 2 * self._most:
            self._sizes = [(-len(t.waiting), n) for n, t in self._tenants.items() if t.waiting]
            heapq.heapify(self._sizes)

    def _remove(self, one: Waiting[A]) -> Waiting[A]:
        self._tenants[one.tenant].remove(one)
        self._count -= 1
        self._bytes -= one.bytes
        self._forget_idle(one.tenant)
        return one

    def _forget_idle(self, name: str) -> None:
        tenant = self._tenants[name]
        if not tenant.waiting and not tenant.running:
            del self._tenants[name]
