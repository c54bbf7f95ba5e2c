"""What a request and this server agree on: the version (absent means 0.3, patch numbers do not count) and extensions.

Specification 3.6 and 4.6: an extension is active when the client asks for it and the card names it; one that the card
requires must be asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qs

from a2a_events.bindings.exchange import Exchange
from a2a_events.errors import ExtensionSupportRequiredError, VersionNotSupportedError
from a2a_events.model import AgentCard

_VERSION = re.compile(r"(\d{1,4}\.\d{1,4})(?:\.\d{1,9})?")


def asked_version(exchange: Exchange) -> str:
    """The version that a request asks for, as :func:`version_of`: in its header, or else in its query."""
    asked = exchange.header(b"a2a-version").strip()
    if not asked:
        query = parse_qs(exchange.query)
        asked = next((values[0] for name, values in query.items() if name.lower() == "a2a-version"), "")
    return version_of(asked)


def version_of(asked: str) -> str:
    """A version without its patch number; 0.3 if none was named, and nothing if it is none."""
    match = _VERSION.fullmatch(asked.strip() or "0.3")
    return match[1] if match else ""


def not_served(*versions: str) -> VersionNotSupportedError:
    """The refusal of a request in another version than these."""
    served = ", ".join(versions)
    return VersionNotSupportedError(
        f"This is served in A2A {served}; set the A2A-Version header accordingly (absent means 0.3)",
        metadata={"supportedVersions": served},
    )


def check_extensions(
    exchange: Exchange, card: AgentCard, headers: Sequence[bytes] = (b"a2a-extensions",)
) -> tuple[str, ...]:
    """The extensions that are active for a request, in the card's order; they are named in the answer's header.

    Args:
        exchange: the request.
        card: of the agent that is asked.
        headers: that name them, in the request and in the answer.

    Raises:
        ExtensionSupportRequiredError: the card requires one that the client does not ask for.
    """
    active = active_extensions(",".join(exchange.header(header) for header in headers), card)
    for header in headers if active else ():
        exchange.add_header(header, ",".join(active).encode())
    return active


def active_extensions(asked_for: str, card: AgentCard) -> tuple[str, ...]:
    """:func:`check_extensions` of the URIs that were asked for, separated by commas.

    Raises:
        ExtensionSupportRequiredError: the card requires one that is not among them.
    """
    known = card.capabilities.extensions
    if not known:
        return ()
    asked = {uri.strip() for uri in asked_for.split(",")}
    missing = [extension.uri for extension in known if extension.required and extension.uri not in asked]
    if missing:
        raise ExtensionSupportRequiredError(
            f"This agent requires the extension {missing[0]}; name it in the A2A-Extensions header",
            metadata={"extensions": ",".join(missing)},
        )
    return tuple(extension.uri for extension in known if extension.uri in asked)
