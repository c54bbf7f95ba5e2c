"""Several methods side by side: a request brings the credential of one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from a2a_events.bindings.identity.port import Identified, Method, NotAuthenticated, Presented


class Several:
    """Any one of these is enough. Two at once are refused: which one counts is for nobody to guess.

    Names of subjects and tenants mean the same whoever vouches for them.

    Args:
        methods: two or more.
    """

    def __init__(self, methods: Sequence[Method]) -> None:
        self._methods = {method.method: method for method in methods}
        self.schemes: Mapping[str, Any] = {name: each for method in methods for name, each in method.schemes.items()}
        self.challenges: Sequence[str] = [challenge for method in methods for challenge in method.challenges]

    async def authenticate(self, presented: Presented) -> Identified:
        """See :class:`~a2a_events.bindings.identity.port.Identity`."""
        given = [method for method in self._methods.values() if method.presents(presented)]
        if not given:
            raise NotAuthenticated("missing")
        if len(given) > 1:
            raise NotAuthenticated("invalid", "The request brings several credentials; send one")
        return await given[0].authenticate(presented)

    def holds(self, who: Identified) -> bool:
        """See :class:`~a2a_events.bindings.identity.port.Identity`."""
        return self._methods[who.method].holds(who)
