"""What a trusted proxy has established: a header of its own, or the client certificate that it has verified.

Our own listeners speak no TLS, so a client certificate is verified by who stands in front (a mesh, Envoy, nginx). The
headers count only from the networks that are listed. From anywhere else they are what anybody could have written.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from msgspec import Struct

from a2a_events import limits
from a2a_events.bindings.identity.port import Identified, NotAuthenticated, Presented, Scope, is_name

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

CERTIFICATE: Final = "x-forwarded-client-cert"
"""Envoy's; the subject is the URI in the certificate, a SPIFFE ID for example."""
_ELEMENT: Final = re.compile(r'\s*(\w+)=("(?:[^"\\]|\\.)*"|[^;,"]*)\s*([;,]|$)')
_HOP: Final = re.compile(r"\[(?P<bracketed>[^]]+)\](?::\d+)?|(?P<with_port>[\d.]+):\d+|(?P<bare>[^\[\]]+)")
"""An address, with the port of the connection where a proxy says that too."""


class Proxies:
    """Where trusted proxies are.

    Args:
        networks: of theirs.
    """

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = tuple(networks)

    def trusts(self, address: str) -> bool:
        """Whether a proxy of ours is there."""
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in network for network in self._networks)

    def client(self, presented: Presented) -> str:
        """The address of who is behind our proxies: the nearest in ``X-Forwarded-For`` that is none of them.

        Where a proxy has put something there that is no address, it has named nobody, and it is the proxy's own.
        """
        address = presented.address
        hops = [hop for value in presented.values("x-forwarded-for") for hop in value.split(",")]
        while hops and self.trusts(address) and (named := _address(hops.pop())):
            address = named
        return address[: limits.ADDRESS_CHARACTERS]


class ProxyHeaders(Struct, frozen=True):
    """Names of the proxy's headers, in lower case; empty: there is none."""

    subject: str = CERTIFICATE
    tenant: str = ""
    """Without it all callers are of the one tenant without a name."""
    scopes: str = ""
    """Separated by spaces or commas. Without it everybody may read and write."""


class Proxy:
    """Callers that a proxy vouches for.

    Args:
        proxies: those that are trusted.
        headers: theirs.
    """

    method = "proxy"
    challenges: Sequence[str] = ('Proxy realm="a2a"',)

    def __init__(self, proxies: Proxies, headers: ProxyHeaders) -> None:
        self._proxies = proxies
        self._headers = headers
        self.schemes: Mapping[str, Any] = (
            {"mutualTls": {"mtlsSecurityScheme": {"description": "A client certificate that the proxy verifies"}}}
            if headers.subject == CERTIFICATE
            else {"proxy": {"httpAuthSecurityScheme": {"scheme": "Bearer", "description": "Checked by the proxy"}}}
        )

    def presents(self, presented: Presented) -> bool:
        """See :class:`~a2a_events.bindings.identity.port.Method`: what others than our proxies send is not there."""
        return self._proxies.trusts(presented.address) and bool(presented.values(self._headers.subject))

    async def authenticate(self, presented: Presented) -> Identified:
        """See :class:`~a2a_events.bindings.identity.port.Identity`. No round trip."""
        if not self.presents(presented):
            raise NotAuthenticated("missing")
        given = presented.one(self._headers.subject)
        subject = _uri(given) if self._headers.subject == CERTIFICATE else given
        tenant = presented.one(self._headers.tenant) if self._headers.tenant else ""
        if not is_name(subject) or (self._headers.tenant and not is_name(tenant)):
            raise NotAuthenticated("invalid")
        return Identified(subject=subject, tenant=tenant, scopes=self._scopes(presented), method=self.method)

    def holds(self, who: Identified) -> bool:  # noqa: ARG002 -- the port's
        """What the proxy let in it can cut off itself."""
        return True

    def _scopes(self, presented: Presented) -> frozenset[Scope]:
        if not self._headers.scopes:
            return frozenset({Scope.READ, Scope.WRITE})
        named = presented.one(self._headers.scopes).replace(",", " ").split()
        return frozenset(scope for scope in Scope if scope.value in named)


def _address(hop: str) -> str:
    """The address in an entry, without the port that some proxies add to it; empty if it holds none."""
    found = _HOP.fullmatch(hop.strip())
    try:
        return str(ipaddress.ip_address(found[found.lastgroup].partition("%")[0])) if found and found.lastgroup else ""
    except ValueError:
        return ""


def _uri(certificate: str) -> str:
    """The one URI of the one certificate in ``X-Forwarded-Client-Cert``; empty if it says anything else.

    A list of certificates says who was in front of whom. Which of them to believe is for nobody to guess: the proxy has
    to replace the header, and not to append to it.
    """
    found: list[str] = []
    at = 0
    while at < len(certificate):
        element = _ELEMENT.match(certificate, at)
        if element is None or element[3] == ",":
            return ""
        if element[1].lower() == "uri":
            found.append(element[2].strip('"'))
        at = element.end()
    return found[0] if len(found) == 1 else ""
