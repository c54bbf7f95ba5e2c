"""Who may come in: the gate of a gateway, from its settings."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from a2a_events.bindings.identity.access import Access
from a2a_events.bindings.identity.api_keys import ApiKeys
from a2a_events.bindings.identity.port import Method, Scope
from a2a_events.bindings.identity.proxy import Network, Proxies, Proxy, ProxyHeaders
from a2a_events.bindings.identity.revocations import Revocations
from a2a_events.bindings.identity.several import Several
from a2a_events.bindings.timelines.guard import is_loopback
from a2a_events.services import usage
from a2a_events.settings import PREFIX, Settings, SettingsError, pairs

if TYPE_CHECKING:
    from a2a_events.bindings.identity.tokens import Jwt

T = TypeVar("T")

_DISCOVERY: Final = "/.well-known/openid-configuration"


def access(settings: Settings) -> Access:
    """The gate of a gateway.

    Raises:
        SettingsError: everybody would be let in and nobody said so, or what a method needs is missing or unreadable.
    """
    methods = settings.auth_methods
    if not methods and not settings.allow_anonymous and not is_loopback(settings.host):
        raise SettingsError(
            f"everybody who reaches {settings.host} could see and do everything: set {PREFIX}AUTH to say how callers"
            f" identify themselves, listen on 127.0.0.1, or allow it with {PREFIX}ALLOW_ANONYMOUS=true"
        )
    if settings.auth_tenant and not methods:
        raise SettingsError(f"{PREFIX}AUTH_TENANT needs {PREFIX}AUTH: without it nobody says whose caller they are")
    if "=" in settings.extended_card and not methods:
        raise SettingsError(
            f"{PREFIX}EXTENDED_CARD shows a card to one tenant, which needs {PREFIX}AUTH: without it anybody may name"
            " that tenant"
        )
    proxies = Proxies(_networks(settings.trusted_proxies))
    made = [_method(name, settings, proxies) for name in methods]
    return Access(
        Several(made) if len(made) > 1 else made[0] if made else None,
        revocations=_of_file("AUTH_REVOKED", settings.auth_revoked, Revocations) if settings.auth_revoked else None,
        proxies=proxies,
        caps=usage.caps(settings),
        only_tenant=settings.auth_tenant,
        local=is_loopback(settings.host),
    )


def _method(name: str, settings: Settings, proxies: Proxies) -> Method:
    match name:
        case "api_keys":
            return _of_file("AUTH_API_KEYS", settings.auth_api_keys, ApiKeys)
        case "jwt":
            return _jwt(settings)
        case "proxy":
            return _proxy(settings, proxies)
        case _:
            raise AssertionError(name)


def _of_file(name: str, path: str, of: Callable[[Path], T]) -> T:
    if not path:
        raise SettingsError(f"{PREFIX}{name} is missing: the path of a file")
    try:
        return of(Path(path))
    except OSError as error:
        raise SettingsError(f"{PREFIX}{name}: cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{PREFIX}{name}: {path}: {error}") from None


def _jwt(settings: Settings) -> Jwt:
    try:
        from a2a_events.bindings.identity.jwks import Jwks  # noqa: PLC0415 -- an optional extra
        from a2a_events.bindings.identity.tokens import ALGORITHMS, Issuer, Jwt  # noqa: PLC0415 -- as above
    except ImportError as error:
        raise SettingsError(
            f"{PREFIX}AUTH=jwt needs a package that is not here: install a2a-events[jwt] ({error})"
        ) from None
    from a2a_events.services.jwks_client import from_file, from_issuer, from_url  # noqa: PLC0415 -- beside the extra

    if not settings.auth_jwt_issuer or not settings.auth_jwt_audience:
        raise SettingsError(f"{PREFIX}AUTH=jwt needs {PREFIX}AUTH_JWT_ISSUER and {PREFIX}AUTH_JWT_AUDIENCE")
    algorithms = tuple(filter(None, (name.strip() for name in settings.auth_jwt_algorithms.split(","))))
    if not algorithms or not ALGORITHMS.issuperset(algorithms):
        raise SettingsError(f"{PREFIX}AUTH_JWT_ALGORITHMS must be some of {', '.join(sorted(ALGORITHMS))}")
    keys, discovery = settings.auth_jwt_keys, ""
    if not keys:
        discovery = settings.auth_jwt_issuer.rstrip("/") + _DISCOVERY
        _require_safe("AUTH_JWT_ISSUER", discovery)
        fetch = from_issuer(settings.auth_jwt_issuer, discovery)
    elif "://" in keys:
        _require_safe("AUTH_JWT_KEYS", keys)
        fetch = from_url(keys)
    else:
        _of_file("AUTH_JWT_KEYS", keys, Path.read_bytes)
        fetch = from_file(Path(keys))
    issuer = Issuer(
        issuer=settings.auth_jwt_issuer,
        audience=settings.auth_jwt_audience,
        algorithms=algorithms,
        tenant_claim=settings.auth_jwt_tenant,
        scopes=_scopes(settings.auth_jwt_scopes),
        leeway_seconds=settings.auth_jwt_leeway_seconds,
        discovery_url=discovery,
    )
    return Jwt(issuer, Jwks(fetch))


def _scopes(text: str) -> dict[str, Scope]:
    """The scopes of tokens, by their names there."""
    found = pairs("AUTH_JWT_SCOPES", text)
    unknown = sorted(set(found) - {scope.value for scope in Scope})
    if unknown or len(set(found.values())) < len(found):
        raise SettingsError(f"{PREFIX}AUTH_JWT_SCOPES names read, write and admin, each by another name: {text!r}")
    return {name: Scope(scope) for scope, name in found.items()}


def _require_safe(name: str, url: str) -> None:
    """What vouches for everybody is not fetched where anybody on the way can change it."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise SettingsError(f"{PREFIX}{name}: {url} must be an https address")


def _proxy(settings: Settings, proxies: Proxies) -> Proxy:
    if not settings.trusted_proxies:
        raise SettingsError(f"{PREFIX}AUTH=proxy needs {PREFIX}TRUSTED_PROXIES, the networks of your proxies")
    found = {key: name.lower() for key, name in pairs("AUTH_PROXY_HEADERS", settings.auth_proxy_headers).items()}
    if "subject" not in found or set(found) - {"subject", "tenant", "scopes"}:
        raise SettingsError(f"{PREFIX}AUTH_PROXY_HEADERS is subject=NAME, and perhaps tenant=NAME and scopes=NAME")
    return Proxy(proxies, ProxyHeaders(**found))


def _networks(text: str) -> list[Network]:
    try:
        return [ipaddress.ip_network(each.strip()) for each in text.split(",") if each.strip()]
    except ValueError as error:
        raise SettingsError(f"{PREFIX}TRUSTED_PROXIES: {error}") from None
