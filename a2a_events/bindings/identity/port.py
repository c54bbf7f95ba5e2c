"""What an identity does: it looks at what a request presents, and says who that is."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, Literal, Protocol, TypeAlias

from msgspec import Struct

from a2a_events import limits
from a2a_events.errors import UnauthenticatedError


class Scope(StrEnum):
    """What a caller may do; none of them contains another."""

    READ = "read"
    """See tasks of its own, lists of them, their webhooks, and the extended card."""
    WRITE = "write"
    """Send messages, cancel tasks, set and delete webhooks."""
    ADMIN = "admin"
    """See how tasks of its own came about, event by event (the debugging API)."""


EVERYTHING: Final = frozenset(Scope)

Why: TypeAlias = Literal["missing", "invalid", "expired", "revoked"]
"""Why a request was not let in, for operators; its sender is told less."""


class Presented(Struct, frozen=True):
    """What a request brings that may say who sends it."""

    values: Callable[[str], Sequence[str]]
    """Every value of a header, or of gRPC's metadata, by its name in lower case: UTF-8, with halves of characters for
    what is not, which are in no name."""
    address: str = ""
    """The peer of the connection; empty where there is none, as for a socket of the file system."""

    def one(self, name: str) -> str:
        """The only value of a header; empty without one.

        Raises:
            NotAuthenticated: there are several. Which one counts is for nobody to guess.
        """
        found = self.values(name)
        if len(found) > 1:
            raise NotAuthenticated("invalid", f"The header {name} came more than once")
        return found[0].strip(" \t") if found else ""


_NOT_IN_NAMES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Controls, halves of characters, and ends of lines, by their categories in Unicode."""


def is_name(text: str) -> bool:
    """Whether this can name a subject, a tenant or a credential.

    A name that looks like another and is not it would own other tasks, and a revocation of one would not cover the
    other. So there is one way to write each (Unicode's NFC), without blanks around it or anything that ends a line.
    """
    return (
        0 < len(text) <= limits.IDENTIFIER_CHARACTERS
        and text == text.strip()
        and (text.isascii() or unicodedata.is_normalized("NFC", text))
        and _NOT_IN_NAMES.isdisjoint(map(unicodedata.category, text))
    )


class Identified(Struct, frozen=True, kw_only=True):
    """Who sends a request."""

    subject: str
    """Who it is, within the tenant. With the tenant, what a task belongs to."""
    tenant: str | None
    """Whose caller it is; None: nobody has said, and the request's routing string counts."""
    scopes: frozenset[Scope]
    expires_at: float | None = None
    """When the credential ends, seconds since 1970."""
    method: str
    """How it was established: ``anonymous``, ``api_key``, ``jwt`` or ``proxy``."""
    credential: str = ""
    """Names the credential without being it: the id of a key or token."""
    key: str = ""
    """What vouches for the credential, where that can be withdrawn: the id of a signing key."""


class NotAuthenticated(UnauthenticatedError):
    """Credentials are missing, or were not accepted.

    Args:
        why: for metrics and audit.
        message: for whoever asked; says no more than they may know.
        claimed: id of the credential that it says it is, short; nobody has shown that they hold it.
    """

    def __init__(self, why: Why, message: str | None = None, *, claimed: str = "") -> None:
        super().__init__(message or ("Authentication is required" if why == "missing" else "Credentials not accepted"))
        self.why: Why = why
        self.claimed = claimed
        self.challenges: tuple[str, ...] = ()
        """For ``WWW-Authenticate``."""


class Identity(Protocol):
    """One way, or several, to say who sends a request. Holds no state of requests, so that any gateway can answer."""

    schemes: Mapping[str, Any]
    """What agent cards say of it: security schemes of A2A 1.0 by name, any one of which is enough."""
    challenges: Sequence[str]
    """What a refusal asks for (``WWW-Authenticate``)."""

    async def authenticate(self, presented: Presented) -> Identified:
        """Who sends this request. No round trip but for keys that were never seen; comparisons take constant time.

        Raises:
            NotAuthenticated: nobody that is known.
            UnavailableError: it cannot be said now; nothing was done.
        """
        ...

    def holds(self, who: Identified) -> bool:
        """Whether who was let in may stay: asked about every open stream, each second. No round trip.

        Expiry is none of its business: ``expires_at`` says that.
        """
        ...


class Method(Identity, Protocol):
    """An identity that knows the credentials of one kind."""

    method: str
    """As ``Identified.method`` has it."""

    def presents(self, presented: Presented) -> bool:
        """Whether a request brings a credential of this kind, good or bad. Looks, and verifies nothing."""
        ...
