"""Who may come in where all tasks of a deployment are shown.

A browser on the same machine is the danger: any site that it has open can send requests to loopback. So a request must
name a host that is ours (DNS rebinding), one that changes something must come from our own page and be JSON, and where
there is a token it must be shown.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
from urllib.parse import urlsplit

from a2a_events import audit
from a2a_events.bindings.exchange import Exchange
from a2a_events.bindings.timelines.api import Problem
from a2a_events.metrics.catalog import AUTH_FAILURES

_CHALLENGE = ((b"www-authenticate", b'Basic realm="timelines", charset="UTF-8"'),)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """What every request must pass.

    Args:
        token: that must be shown, as a password or a bearer token; empty: none is asked for, and only requests to
            loopback come in.
    """

    def __init__(self, token: str = "") -> None:
        self._token = token.encode()

    def check(self, exchange: Exchange, *, api: bool) -> None:
        """Whether this request may come in.

        Args:
            exchange: the request.
            api: whether only our own page and programs have business with the path, and no link leads to it.

        Raises:
            Problem: it may not.
        """
        host = exchange.header(b"host")
        if self._token:
            # With one, other names are fine: what a browser shows to one name it does not show to another.
            if not hmac.compare_digest(_shown_token(exchange.header(b"authorization")), self._token):
                _denied("token", exchange)
                raise Problem(401, "A token is needed here: as the password, with any user name", _CHALLENGE)
        elif not is_loopback(_hostname(host)):
            _denied("host", exchange)
            raise Problem(403, "This server answers to localhost only; another name needs a token")
        site = exchange.header(b"sec-fetch-site")
        changes = exchange.method not in {"GET", "HEAD"}
        if (api or changes) and site in {"cross-site", "same-site"}:
            _denied("site", exchange)
            raise Problem(403, "Another site's page has no business here")
        if not changes:
            return
        origin = exchange.header(b"origin")
        if origin and origin.partition("://")[2] != host:
            _denied("site", exchange)
            raise Problem(403, "Another site's page has no business here")
        if exchange.header(b"content-type").partition(";")[0].strip().lower() != "application/json":
            raise Problem(415, "The body must be application/json, and say so")


def _denied(reason: str, exchange: Exchange) -> None:
    AUTH_FAILURES.inc(reason)
    audit.denied(reason, binding="TIMELINES", address=exchange.presented.address)


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _shown_token(authorization: str) -> bytes:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except ValueError:  # also what is not ASCII
            return b""
    return b""
