"""No identity: everybody is let in, and may do everything. For development."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from a2a_events.bindings.identity.port import EVERYTHING, Identified, Presented

_ANYBODY: Final = Identified(subject="anonymous", tenant=None, scopes=EVERYTHING, method="anonymous")


class Anonymous:
    """Asks nobody. The tenant is what the request says it is."""

    schemes: Mapping[str, Any] = {}
    challenges: Sequence[str] = ()

    async def authenticate(self, presented: Presented) -> Identified:  # noqa: ARG002 -- the port's
        """See :class:`~a2a_events.bindings.identity.port.Identity`."""
        return _ANYBODY

    def holds(self, who: Identified) -> bool:  # noqa: ARG002 -- the port's
        """See :class:`~a2a_events.bindings.identity.port.Identity`."""
        return True
