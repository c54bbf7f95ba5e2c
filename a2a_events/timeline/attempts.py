"""Who tried the newest turn, and what ended each try: read off its claims, record by record."""

from __future__ import annotations

from typing import assert_never

import msgspec
from msgspec import Struct

from a2a_events.timeline.events import (
    Kind,
    TaskDeadLettered,
    TurnClaimed,
    TurnEnded,
    TurnReleased,
    TurnSuspended,
)
from a2a_events.timeline.record import Record

SLEPT = "it slept"
"""What ended a claim whose turn was suspended."""
_TELLING = frozenset(
    {Kind.TURN_CLAIMED.value, Kind.TURN_RELEASED.value, Kind.TURN_SUSPENDED.value, Kind.TURN_ENDED.value}
)


class Attempt(Struct, frozen=True, omit_defaults=True):
    """One claim of a turn."""

    attempt: int
    epoch: int
    time: int
    """When it began, milliseconds, by its worker's clock."""
    worker: str
    policy: str = ""
    version: str = ""
    reason: str = ""
    """What ended it; empty while it goes on."""


class Attempts:
    """The claims of the newest turn. A turn that ended leaves none; of a task that was given up the last ones stay."""

    def __init__(self) -> None:
        self.claims: list[Attempt] = []
        self.claimed = 0
        """Position of the record of the newest claim; 0 without one. Its owner was given the messages before it."""
        self.released = 0
        """Position of the record by which nobody owns the turn any more; 0 while somebody does."""
        self._given_up = False

    def take(self, record: Record) -> None:
        """Take in one record, in order.

        Raises:
            ValueError: it is damaged.
        """
        kinds = record.header.kinds
        if self._given_up or _TELLING.isdisjoint(kinds):
            return
        self._given_up = Kind.TASK_DEAD_LETTERED.value in kinds
        for event, time in zip(record.events(), record.header.times, strict=True):
            if isinstance(event, TaskDeadLettered):
                self._ended_by(event.reason)
            elif self._given_up:
                continue  # a claim beside it is that of whoever gave the task up
            elif isinstance(event, TurnClaimed | TurnReleased | TurnSuspended | TurnEnded):
                self._note(event, time, record)

    def _note(self, event: TurnClaimed | TurnReleased | TurnSuspended | TurnEnded, time: int, record: Record) -> None:
        match event:
            case TurnClaimed():
                self._ended_by(event.reason)
                worker = record.header.writer.instance
                self.claims.append(Attempt(event.attempt, event.epoch, time, worker, event.policy, event.agent_version))
                self.claimed, self.released = record.position, 0
            case TurnReleased():
                self._ended_by(event.reason)
                self.released = record.position
            case TurnSuspended():
                self._ended_by(SLEPT)
            case TurnEnded():
                self.claims, self.claimed, self.released = [], 0, 0
            case _:
                assert_never(event)

    def _ended_by(self, reason: str) -> None:
        if self.claims and not self.claims[-1].reason:
            self.claims[-1] = msgspec.structs.replace(self.claims[-1], reason=reason)
