"""Which bytes a signature of a card is of: RFC 8785 of what the card says, without its signatures (8.4.1).

What the specification asks for and what its own libraries do are two things. It keeps REQUIRED members that are empty;
a2a-sdk and @a2a-js/sdk drop whatever is empty, wherever it stands. So a card may have two canonical forms. They are the
same bytes for a card that has nothing empty in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import rfc8785

from a2a_events import limits
from a2a_events.signing import strict_json
from a2a_events.signing.strict_json import Json, is_list, is_object


class NotCanonical(ValueError):
    """There is no such card: a member is of another type, written twice, or has no canonical form."""


class Form(NamedTuple):
    """One canonical form of a card."""

    payload: bytes
    """What is signed."""
    card: Json
    """What these bytes say: nothing that is not in them, but for REQUIRED members that are empty."""


def read(content: bytes) -> Json:
    """A card as a JSON object.

    Raises:
        NotCanonical: it is none, or ambiguous.
    """
    try:
        value = strict_json.read(content)
    except ValueError as error:
        raise NotCanonical(f"it cannot be read: {error}") from None
    if not is_object(value):
        raise NotCanonical("it is no JSON object")
    return value


def forms(card: Mapping[str, Any]) -> tuple[Form, ...]:
    """The canonical forms of a card: the specification's, and that of the official libraries where it is another one.

    Members that no card of 1.0 has are in neither.

    Raises:
        NotCanonical: it has none.
    """
    specified = _message(card, "AgentCard", "", 1)
    abridged = _without_empty(specified)
    first = Form(_bytes(specified), specified)
    payload = _bytes(abridged)
    if payload == first.payload:
        return (first,)
    return first, Form(payload, _message(abridged, "AgentCard", "", 1))


def _bytes(value: Any) -> bytes:
    try:
        return rfc8785.dumps(value)
    except (ValueError, RecursionError) as error:
        raise NotCanonical(f"it has no canonical form: {error}") from None


def _without_empty(value: Any) -> Any:
    """As a2a-sdk and @a2a-js/sdk do: no empty text, list, object or null, at any depth."""
    if is_object(value):
        kept = {name: _without_empty(each) for name, each in value.items()}
        return {name: each for name, each in kept.items() if not _is_empty(each)}
    if is_list(value):
        return [each for each in map(_without_empty, value) if not _is_empty(each)]
    return value


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


# --- the schema: a2a.proto, as far as a card goes --------------------------------------------------------------------


class Member(NamedTuple):
    """A member of an object."""

    of: str
    """``text``, ``flag``, ``json`` (any object), or an object of this schema."""
    many: str = ""
    """``list`` or ``map``; empty: one."""
    required: bool = False
    """Always written, also at its default."""
    presence: bool = False
    """Written whenever it is set, also to its default: ``optional``, and every object."""


_TEXT: Final = Member("text")
_NEEDED: Final = Member("text", required=True)
_TEXTS: Final = Member("text", many="list")
_NEEDED_TEXTS: Final = Member("text", many="list", required=True)
_SET_FLAG: Final = Member("flag", presence=True)
_SET_TEXT: Final = Member("text", presence=True)


def _one(of: str) -> Member:
    return Member(of, presence=True)


_REQUIREMENTS: Final = Member("SecurityRequirement", many="list")
_SCOPES: Final = Member("text", many="map", required=True)
_OLD_FLOW: Final[Mapping[str, Member]] = {"refreshUrl": _TEXT, "scopes": Member("text", many="map")}
"""Flows that are deprecated require nothing."""

SCHEMA: Final[Mapping[str, Mapping[str, Member]]] = {
    "AgentCard": {
        "name": _NEEDED,
        "description": _NEEDED,
        "supportedInterfaces": Member("AgentInterface", many="list", required=True),
        "provider": _one("AgentProvider"),
        "version": _NEEDED,
        "documentationUrl": _SET_TEXT,
        "capabilities": Member("AgentCapabilities", required=True, presence=True),
        "securitySchemes": Member("SecurityScheme", many="map"),
        "securityRequirements": _REQUIREMENTS,
        "defaultInputModes": _NEEDED_TEXTS,
        "defaultOutputModes": _NEEDED_TEXTS,
        "skills": Member("AgentSkill", many="list", required=True),
        "iconUrl": _SET_TEXT,
    },
    "AgentInterface": {"url": _NEEDED, "protocolBinding": _NEEDED, "tenant": _TEXT, "protocolVersion": _NEEDED},
    "AgentProvider": {"url": _NEEDED, "organization": _NEEDED},
    "AgentCapabilities": {
        "streaming": _SET_FLAG,
        "pushNotifications": _SET_FLAG,
        "extensions": Member("AgentExtension", many="list"),
        "extendedAgentCard": _SET_FLAG,
    },
    "AgentExtension": {"uri": _TEXT, "description": _TEXT, "required": Member("flag"), "params": _one("json")},
    "AgentSkill": {
        "id": _NEEDED,
        "name": _NEEDED,
        "description": _NEEDED,
        "tags": _NEEDED_TEXTS,
        "examples": _TEXTS,
        "inputModes": _TEXTS,
        "outputModes": _TEXTS,
        "securityRequirements": _REQUIREMENTS,
    },
    "SecurityRequirement": {"schemes": Member("StringList", many="map")},
    "StringList": {"list": _TEXTS},
    "SecurityScheme": {
        "apiKeySecurityScheme": _one("APIKeySecurityScheme"),
        "httpAuthSecurityScheme": _one("HTTPAuthSecurityScheme"),
        "oauth2SecurityScheme": _one("OAuth2SecurityScheme"),
        "openIdConnectSecurityScheme": _one("OpenIdConnectSecurityScheme"),
        "mtlsSecurityScheme": _one("MutualTlsSecurityScheme"),
    },
    "APIKeySecurityScheme": {"description": _TEXT, "location": _NEEDED, "name": _NEEDED},
    "HTTPAuthSecurityScheme": {"description": _TEXT, "scheme": _NEEDED, "bearerFormat": _TEXT},
    "OAuth2SecurityScheme": {
        "description": _TEXT,
        "flows": Member("OAuthFlows", required=True, presence=True),
        "oauth2MetadataUrl": _TEXT,
    },
    "OpenIdConnectSecurityScheme": {"description": _TEXT, "openIdConnectUrl": _NEEDED},
    "MutualTlsSecurityScheme": {"description": _TEXT},
    "OAuthFlows": {
        "authorizationCode": _one("AuthorizationCodeOAuthFlow"),
        "clientCredentials": _one("ClientCredentialsOAuthFlow"),
        "implicit": _one("ImplicitOAuthFlow"),
        "password": _one("PasswordOAuthFlow"),
        "deviceCode": _one("DeviceCodeOAuthFlow"),
    },
    "AuthorizationCodeOAuthFlow": {
        "authorizationUrl": _NEEDED,
        "tokenUrl": _NEEDED,
        "refreshUrl": _TEXT,
        "scopes": _SCOPES,
        "pkceRequired": Member("flag"),
    },
    "ClientCredentialsOAuthFlow": {"tokenUrl": _NEEDED, "refreshUrl": _TEXT, "scopes": _SCOPES},
    "DeviceCodeOAuthFlow": {
        "deviceAuthorizationUrl": _NEEDED,
        "tokenUrl": _NEEDED,
        "refreshUrl": _TEXT,
        "scopes": _SCOPES,
    },
    "ImplicitOAuthFlow": {"authorizationUrl": _TEXT, **_OLD_FLOW},
    "PasswordOAuthFlow": {"tokenUrl": _TEXT, **_OLD_FLOW},
}


def _message(value: Any, of: str, where: str, depth: int) -> Json:
    """An object with the members that its signature is of."""
    given = _object(value, where, depth)
    return {
        name: found
        for name, member in SCHEMA[of].items()
        if (found := _member(_given(given, name, where), member, f"{where}.{name}".lstrip("."), depth)) is not None
    }


def _given(members: Json, name: str, where: str) -> Any:
    """A member, by its name in JSON or in the proto: ProtoJSON takes both."""
    other = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    if other != name and name in members and other in members:
        raise NotCanonical(f"{where or 'it'} names {name} twice")
    return members[name] if name in members else members.get(other)


def _member(value: Any, member: Member, where: str, depth: int) -> Any:
    """A member as it is signed; None if it is left out."""
    match member.many:
        case "list":
            found: Any = [_one_of(each, member.of, where, depth) for each in _list(value, where)]
        case "map":
            members = {} if value is None else _object(value, where, depth)
            found = {name: _one_of(each, member.of, f"{where}.{name}", depth) for name, each in members.items()}
        case _:
            if value is None:
                return "" if member.required and member.of == "text" else None
            found = _one_of(value, member.of, where, depth)
    return found if found or member.required or member.presence else None


def _one_of(value: Any, of: str, where: str, depth: int) -> Any:
    if of in SCHEMA:
        return _message(value, of, where, depth + 1)
    if of == "json":
        _object(value, where, depth)
        _check_depth(value, where, depth + 1)
        return value
    if not _IS[of](value):
        raise NotCanonical(f"{where} is no {of}")
    return value


_IS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "text": lambda value: isinstance(value, str),
    "flag": lambda value: isinstance(value, bool),
}


def _object(value: Any, where: str, depth: int) -> Json:
    if not is_object(value):
        raise NotCanonical(f"{where or 'it'} is no object")
    if depth > limits.CARD_DEPTH:
        raise NotCanonical(f"it is nested deeper than {limits.CARD_DEPTH}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not is_list(value):
        raise NotCanonical(f"{where} is no list")
    return value


def _check_depth(value: Any, where: str, depth: int) -> None:
    if is_object(value):
        for each in _object(value, where, depth).values():
            _check_depth(each, where, depth + 1)
    elif is_list(value):
        if depth > limits.CARD_DEPTH:
            raise NotCanonical(f"it is nested deeper than {limits.CARD_DEPTH}")
        for each in value:
            _check_depth(each, where, depth + 1)
