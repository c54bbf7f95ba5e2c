"""The one gate: who asks, whether they may do this, whose tenant they are of, and for how long all of it holds.

Every binding asks in this order, before it reads a body and before anything of a task is looked up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from a2a_events import audit
from a2a_events.bindings.caps.caps import Caps, counted
from a2a_events.bindings.identity.anonymous import Anonymous
from a2a_events.bindings.identity.api_keys import HEADER
from a2a_events.bindings.identity.port import Identified, Identity, NotAuthenticated, Presented, Scope
from a2a_events.bindings.identity.proxy import Proxies
from a2a_events.bindings.identity.revocations import Revocations
from a2a_events.errors import PermissionDeniedError, TooManyRequestsError
from a2a_events.metrics.catalog import AUTH_FAILURES
from a2a_events.model.card import SecurityRequirement, StringList
from a2a_events.runtime.directory import Security

SCOPES: Final = {
    "SendMessage": Scope.WRITE,
    "SendStreamingMessage": Scope.WRITE,
    "GetTask": Scope.READ,
    "ListTasks": Scope.READ,
    "CancelTask": Scope.WRITE,
    "SubscribeToTask": Scope.READ,
    "CreateTaskPushNotificationConfig": Scope.WRITE,
    "GetTaskPushNotificationConfig": Scope.READ,
    "ListTaskPushNotificationConfigs": Scope.READ,
    "DeleteTaskPushNotificationConfig": Scope.WRITE,
    "GetExtendedAgentCard": Scope.READ,
    "Timeline": Scope.ADMIN,
}
"""What each operation needs. One that is not here is allowed to nobody."""

_SECRETS: Final = ("authorization", HEADER.lower())
"""Headers in which anybody can guess. What a proxy vouches for comes from the proxy alone."""


class Access:
    """Who may come in and do what.

    Args:
        identity: says who asks; default: anybody may do everything.
        revocations: who is let in no more, whatever vouches for them.
        proxies: those that are trusted to say whom they speak for.
        caps: how much callers may use; default: anything.
        only_tenant: whose callers alone may do anything; empty: all tenants'.
        local: nobody but this machine is served.
        now: the clock, seconds since 1970.
    """

    def __init__(
        self,
        identity: Identity | None = None,
        *,
        revocations: Revocations | None = None,
        proxies: Proxies | None = None,
        caps: Caps | None = None,
        only_tenant: str = "",
        local: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.identity: Identity = identity or Anonymous()
        self._revocations = revocations
        self._proxies = proxies or Proxies()
        self.caps = caps or Caps()
        """How much callers may use."""
        self._only_tenant = only_tenant
        self._local = local
        self._now = now

    @property
    def security(self) -> Security | None:
        """What agent cards say of it; None: nothing is asked for, and cards say what they say."""
        schemes = dict(self.identity.schemes)
        if not schemes:
            return None
        return Security(schemes, tuple(SecurityRequirement(schemes={name: StringList()}) for name in schemes))

    def address(self, presented: Presented) -> str:
        """Where a request comes from: its peer, or whom a trusted proxy names. What limits and audit go by."""
        return self._proxies.client(presented)

    def counted(self, address: str) -> str:
        """What an address counts as.

        Empty: not at all. So it is with a trusted proxy that names nobody, and with this machine where nobody else is
        served.
        """
        return "" if self._proxies.trusts(address) else counted(address, local=self._local)

    async def arrive(self, presented: Presented) -> None:
        """Whether there may be one more request from where this one comes.

        Raises:
            TooManyRequestsError: one too many; nothing was done.
        """
        try:
            self.caps.arrive(self.counted(self.address(presented)))
        except TooManyRequestsError:
            await self.caps.hold_back()
            raise

    async def enter(self, presented: Presented, binding: str) -> Identified:
        """Who sends a request, if there may be one more from there and of theirs.

        Args:
            presented: what it brings.
            binding: that it came by.

        Raises:
            NotAuthenticated: nobody that is known; carries what to ask for.
            TooManyRequestsError: one too many, of the address or of the tenant; nothing was done.
            UnavailableError: that cannot be said now; nothing was done.
        """
        address = self.address(presented)
        place = self.counted(address)
        await self.arrive(presented)
        who: Identified | None = None
        try:
            with self.caps.checking(place, _credential(presented)):
                who = await self.identity.authenticate(presented)
                self._check(who)
            self.caps.enter(who)
            return who
        except NotAuthenticated as refused:
            refused.challenges = tuple(self.identity.challenges)
            AUTH_FAILURES.inc(refused.why)
            of = named(who) if who is not None else {"claimed": refused.claimed}
            audit.denied(refused.why, binding=binding, address=address, **of)
            raise
        except TooManyRequestsError:
            await self.caps.hold_back()
            raise

    def _check(self, who: Identified) -> None:
        if who.expires_at is not None and who.expires_at <= self._now():
            raise NotAuthenticated("expired", "The credential has expired")
        if not self._stands(who):
            raise NotAuthenticated("revoked")

    def permit(self, who: Identified, operation: str, *, binding: str, address: str) -> None:
        """Let somebody do something.

        Raises:
            PermissionDeniedError: they may not.
        """
        needed = SCOPES.get(operation)
        if self._only_tenant and who.tenant != self._only_tenant:
            AUTH_FAILURES.inc("tenant")
            audit.denied("tenant", operation=operation, binding=binding, address=address, **named(who))
            raise PermissionDeniedError("The credential is of a tenant that is not served here")
        if needed in who.scopes:
            return
        AUTH_FAILURES.inc("scope")
        audit.denied("scope", operation=operation, binding=binding, address=address, **named(who))
        raise PermissionDeniedError(f"This needs the scope {needed or 'that nobody has'}")

    def tenant(self, who: Identified, asked: str, *, operation: str, binding: str, address: str) -> str:
        """Whose task this is about: the tenant of the credential, whatever the request says.

        Args:
            who: asks.
            asked: the request's routing string; empty: none, or one that only routed to the agent.
            operation: that is asked for.
            binding: that it came by.
            address: of the peer.

        Raises:
            PermissionDeniedError: the request names another tenant. What there is of it makes no difference.
        """
        if who.tenant is None:
            return asked
        if asked and asked != who.tenant:
            AUTH_FAILURES.inc("tenant")
            audit.denied("tenant", operation=operation, binding=binding, address=address, **named(who))
            raise PermissionDeniedError("The request names a tenant that the credential is not of")
        return who.tenant

    def holds(self, who: Identified) -> bool:
        """Whether somebody who was let in may still be shown anything. No round trip."""
        return (who.expires_at is None or who.expires_at > self._now()) and self._stands(who)

    def _stands(self, who: Identified) -> bool:
        """Whether nobody has withdrawn the credential."""
        return self.identity.holds(who) and not (self._revocations is not None and self._revocations.cover(who))


def _credential(presented: Presented) -> int:
    """Stands for the secrets in a request, and is none; 0 without any."""
    secrets = tuple(secret for name in _SECRETS for secret in presented.values(name))
    return hash(secrets) if secrets else 0


def named(who: Identified) -> dict[str, str]:
    """Who somebody is, as the audit log has it."""
    return {"subject": who.subject, "tenant": who.tenant or "", "method": who.method, "credential": who.credential}
