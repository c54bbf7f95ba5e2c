"""Which version of A2A a request is in (specification 3.6): absent means 0.3, patch numbers do not count."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qs

from a2a_events.bindings.exchange import Exchange
from a2a_events.errors import VersionNotSupportedError

SERVED: Final = ("1.0",)
_VERSION = re.compile(r"(\d{1,4}\.\d{1,4})(?:\.\d{1,9})?")


def check_version(exchange: Exchange) -> None:
    """Refuse a request in a version that is not served here.

    Raises:
        VersionNotSupportedError: names the versions that are.
    """
    asked = exchange.header(b"a2a-version").strip()
    if asked == "1.0":
        return
    if not asked:
        query = parse_qs(exchange.query)
        asked = next((values[0] for name, values in query.items() if name.lower() == "a2a-version"), "0.3")
    match = _VERSION.fullmatch(asked.strip())
    if match is None or match[1] not in SERVED:
        served = ", ".join(SERVED)
        raise VersionNotSupportedError(
            f"This server speaks A2A {served}; set the A2A-Version header accordingly (absent means 0.3)",
            metadata={"supportedVersions": served},
        )
