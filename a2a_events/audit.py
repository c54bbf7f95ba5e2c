"""The audit log: who was not let in, who is over a limit, what was deleted, who looked at what operators look at.

One line each, event ``audit``, whatever the level of the rest (ADR 0033). Never a credential, never content.

Lines of the one kind that strangers can cause at will, those of refusals, are bounded for each reason: what is over is
counted.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, defaultdict
from typing import Any, Final

import structlog

from a2a_events import limits

_LINE_CHARACTERS: Final = 256
"""Longest value in a line: subjects and addresses are far below."""

# Of its own level: an operator who wants fewer lines does not want fewer of these.
_logger: Any = structlog.wrap_logger(
    None,
    wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
    logger_factory_args=("a2a_events.audit",),
)


class _Bound:
    """So many lines a second; how many were left out is said in the next."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def take(self) -> int | None:
        """How many lines were left out before this one; None if this is to be left out."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        if self._lines >= limits.AUDIT_DENIALS_PER_SECOND:
            self._left_out += 1
            return None
        self._lines += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


class _Looks:
    """Who looked at what lately."""

    def __init__(self) -> None:
        self._at: OrderedDict[object, float] = OrderedDict()

    def first(self, look: object) -> bool:
        """Whether this was not named a short time ago; notes that it is now."""
        now = time.monotonic()
        named = self._at.get(look)
        if named is not None and now - named < limits.AUDIT_SEEN_SECONDS:
            return False
        self._at[look] = now
        self._at.move_to_end(look)
        if len(self._at) > limits.AUDIT_LOOKS:
            self._at.popitem(last=False)
        return True


_denials: defaultdict[str, _Bound] = defaultdict(_Bound)
"""By reason: strangers without a credential must not keep out of the log who asks for what is somebody else's."""
_looks = _Looks()
_limited: defaultdict[str, _Bound] = defaultdict(_Bound)
_over = _Looks()
"""Who is over a limit."""


def denied(reason: str, **of: str) -> None:
    """Somebody was not let in, or may not do what they asked for.

    Args:
        reason: as ``a2a_auth_failures_total`` has it.
        of: the request: operation, binding, address; subject, tenant, method and credential where they are known;
            claimed, what it said its credential was, where that was not shown.
    """
    left_out = _denials[reason].take()
    if left_out is not None:
        _write("denied", reason=reason, left_out=left_out or None, **_short(of))


def limited(reason: str, **of: str) -> None:
    """Somebody is over a limit of their own. Who it is, is named once in ``limits.AUDIT_SEEN_SECONDS`` for each limit.

    Args:
        reason: as ``a2a_rate_limited_total`` has it.
        of: whoever it is, as the limit counts: tenant, subject or address; payer, either of them, of bodies.
    """
    if not _over.first((reason, *sorted(of.items()))):
        return
    left_out = _limited[reason].take()
    if left_out is not None:
        _write("limited", reason=reason, left_out=left_out or None, **_short(of))


def deleted(what: str, **of: str) -> None:
    """Something was deleted for good.

    Args:
        what: a ``webhook``, a ``task`` or the ``tombstone`` that was left of one, a ``dead letter``, or ``contexts``:
            what agents kept for those of a tenant.
        of: who did it and what it was.
    """
    _write("deleted", what=what, **_short(of))


def seen(what: str, **of: str) -> None:
    """Somebody looked at what operators look at: a timeline, a list of everybody's tasks.

    Who looks on is named once in ``limits.AUDIT_SEEN_SECONDS``: a page asks often while somebody scrubs through it.

    Args:
        what: which.
        of: who did, and of which task.
    """
    if _looks.first((what, *sorted(of.items()))):
        _write("seen", what=what, **_short(of))


def _write(action: str, **members: Any) -> None:
    _logger.info("audit", action=action, **members)


def _short(of: dict[str, str]) -> dict[str, str | None]:
    return {name: value[:_LINE_CHARACTERS] or None for name, value in of.items()}
