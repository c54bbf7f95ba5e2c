"""The agent card of 1.0 as 0.3 has it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from a2a_events.bindings.shape import Table, each, elements_of, is_object, members_of, same, shape

PROTOCOL_VERSION: Final = "0.3.0"
TRANSPORTS: Final = ("JSONRPC", "HTTP+JSON")
"""What 0.3 is served over."""

_OAUTH_FLOW: Final[Table] = {
    "authorizationUrl": same,
    "tokenUrl": same,
    "refreshUrl": same,
    "scopes": same,
}


def _oauth_flow(value: Any) -> Any:
    return shape(value, _OAUTH_FLOW)


def _oauth_flows(value: Any) -> Any:
    # The device code flow is of 1.0 alone.
    names = ("authorizationCode", "clientCredentials", "implicit", "password")
    return shape(value, dict.fromkeys(names, _oauth_flow))


_SCHEMES: Final[Mapping[str, tuple[str, Table]]] = {
    "apiKeySecurityScheme": ("apiKey", {"name": same, "location": ("in", same), "description": same}),
    "httpAuthSecurityScheme": ("http", {"scheme": same, "bearerFormat": same, "description": same}),
    "oauth2SecurityScheme": ("oauth2", {"flows": _oauth_flows, "oauth2MetadataUrl": same, "description": same}),
    "openIdConnectSecurityScheme": ("openIdConnect", {"openIdConnectUrl": same, "description": same}),
    "mtlsSecurityScheme": ("mutualTLS", {"description": same}),
}


def _security_scheme(value: Any) -> Any:
    for name, content in members_of(value).items():
        if name in _SCHEMES:
            kind, table = _SCHEMES[name]
            return {"type": kind, **shape(content, table)}
    return value


def _security_schemes(value: Any) -> Any:
    return {name: _security_scheme(scheme) for name, scheme in members_of(value).items()}


def _scopes(value: Any) -> Any:
    return members_of(value).get("list", [])


def _security_requirement(value: Any) -> Any:
    schemes = members_of(members_of(value).get("schemes"))
    return {name: _scopes(scopes) for name, scopes in schemes.items()}


_CAPABILITIES: Final[Table] = {"streaming": same, "pushNotifications": same, "extensions": same}
_SKILL: Final[Table] = {
    "id": same,
    "name": same,
    "description": same,
    "tags": same,
    "examples": same,
    "inputModes": same,
    "outputModes": same,
    "securityRequirements": ("security", each(_security_requirement)),
}


def _capabilities(value: Any) -> Any:
    return shape(value, _CAPABILITIES)


def _skill(value: Any) -> Any:
    return shape(value, _SKILL)


_CARD: Final[Table] = {
    "name": same,
    "description": same,
    "version": same,
    "provider": same,
    "documentationUrl": same,
    "iconUrl": same,
    "capabilities": _capabilities,
    "securitySchemes": _security_schemes,
    "securityRequirements": ("security", each(_security_requirement)),
    "defaultInputModes": same,
    "defaultOutputModes": same,
    "skills": each(_skill),
}


def card(value: Any) -> Any:
    """A card as a 0.3 client expects it. Signatures are left out: they are of other bytes.

    Args:
        value: the card of 1.0, with the addresses of this gateway.
    """
    members = members_of(value)
    untenanted = [offer for offer in elements_of(members.get("supportedInterfaces")) if not offer.get("tenant")]
    offered = {offer["protocolBinding"]: offer["url"] for offer in untenanted}
    interfaces = [{"url": offered[name], "transport": name} for name in TRANSPORTS if name in offered]
    return {
        "protocolVersion": PROTOCOL_VERSION,
        **shape(value, _CARD),
        **({"url": interfaces[0]["url"]} if interfaces else {}),
        "preferredTransport": TRANSPORTS[0],
        "additionalInterfaces": interfaces,
        "supportsAuthenticatedExtendedCard": members_of(members.get("capabilities")).get("extendedAgentCard") is True,
    }


def proto_card(value: Any) -> Any:
    """A card as the JSON of 0.3's proto, which writes security as 1.0 does."""
    members = members_of(value)
    security = shape(value, {"securitySchemes": same, "securityRequirements": ("security", same)})
    skills = [
        {**_skill(skill), **shape(skill, {"securityRequirements": ("security", same)})}
        for skill in elements_of(members.get("skills"))
    ]
    return {**card(value), **security, "skills": skills}


def hybrid_card(value: Any) -> Any:
    """A card with the members of both versions, for clients of either; 1.0's interfaces come first.

    The added members are not of 1.0's schema, and change the bytes that a signature is of; so signatures are left out.
    """
    older = card(value)
    members = members_of(value)
    interfaces = [
        {"url": offered["url"], "protocolBinding": offered["transport"], "protocolVersion": "0.3"}
        for offered in older["additionalInterfaces"]
    ]
    both = _merged(older, {name: content for name, content in members.items() if name != "signatures"})
    both["supportedInterfaces"] = [*members.get("supportedInterfaces", []), *interfaces]
    return both


def _merged(older: Any, newer: Any) -> Any:
    """The members of both; where they differ in a value, the newer one's."""
    if is_object(older) and is_object(newer):
        first, second = members_of(older), members_of(newer)
        return {
            name: _merged(first[name], second[name]) if name in first and name in second else (first | second)[name]
            for name in first | second
        }
    if elements_of(older) and elements_of(newer):
        return [_merged(one, other) for one, other in zip(older, newer, strict=True)]
    return newer
