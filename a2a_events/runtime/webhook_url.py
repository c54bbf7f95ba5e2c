"""Which webhook targets may be called (specification 13.2): a client's URL makes *us* call, from inside our network.

Pure functions, asked twice: when a config is set, about what its URL says, and for every connection, about the address
that the name resolved to (``runtime.webhooks`` connects to the very address that was checked).
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from msgspec import Struct

from a2a_events import limits

Address: TypeAlias = IPv4Address | IPv6Address
_Network: TypeAlias = IPv4Network | IPv6Network


class TargetRefused(ValueError):
    """This target is not called; the text says why, and is safe to show to whoever named it."""


class Target(Struct, frozen=True):
    """Where a webhook is, taken apart by us: what is checked is what is called."""

    scheme: str
    host: str
    """A name in lower case without a final dot, or an address without brackets."""
    port: int
    path: str
    """With the query; begins with a slash."""

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """Host and port, as the ``Host`` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


_PORTS: Final = {"http": 80, "https": 443}
_WELL_KNOWN: Final = 1024
_OTHER_PROTOCOLS: Final = frozenset(
    {2049, 2375, 2376, 2379, 3306, 4222, 5432, 6222, 6379, 6443, 8222, 9200, 10250, 11211, 27017}
)
"""Ports above those that no webhook has: NATS, databases, caches, and what runs containers."""
_URL: Final = re.compile(r"[!-\[\]-~]+")
"""Printable ASCII without space and backslash, which parsers disagree about."""
_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that resolvers take for a number, and the whole host for an address in one of its odd spellings."""

_LOCAL: Final = (".localhost", ".local", ".internal", ".svc", ".home.arpa")
"""Endings of names that mean something in a local network or cluster only."""

_PRIVATE: Final[tuple[_Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by carriers, and by cloud networks
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
    )
)
"""Reachable where development happens: ``push_allow_private`` opens these."""
_NEVER: Final[tuple[_Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "169.254.0.0/16",  # link-local: the metadata services of clouds
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",  # Teredo and other special uses
        "2001:db8::/32",
        "3fff::/20",
    )
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""The only part of IPv6 that is handed out to the world; all else is special, or will be."""
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")


def target(url: str, *, allow_private: bool = False) -> Target:
    """What a webhook's URL says, if it may be called as far as the URL alone can tell. No network access.

    Args:
        url: as a client wrote it.
        allow_private: whether private targets are called, and any port.

    Raises:
        TargetRefused: it is malformed, or never called.
    """
    if not 0 < len(url) <= limits.WEBHOOK_URL_CHARACTERS:
        raise TargetRefused(f"must be a URL of at most {limits.WEBHOOK_URL_CHARACTERS} characters")
    if not _URL.fullmatch(url):
        raise TargetRefused("must be printable ASCII without spaces and backslashes; encode the rest")
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").removesuffix(".")
    except ValueError:
        raise TargetRefused("is not a URL") from None
    if parts.scheme not in _PORTS:
        raise TargetRefused("must begin with https:// or http://")
    if "@" in parts.netloc:
        raise TargetRefused("must not hold credentials; use authentication")
    port = _PORTS[parts.scheme] if port is None else port
    of_others = (port < _WELL_KNOWN and port not in _PORTS.values()) or port in _OTHER_PROTOCOLS
    if not port or (of_others and not allow_private):
        raise TargetRefused(f"port {port} belongs to another protocol")
    _check_host(host, bracketed="[" in parts.netloc, allow_private=allow_private)
    path = parts.path or "/"
    return Target(parts.scheme, host, port, f"{path}?{parts.query}" if parts.query else path)


def check_address(address: Address, *, allow_private: bool = False) -> None:
    """Refuse an address that webhooks are not called at.

    Raises:
        TargetRefused: it is private (and ``allow_private`` is not set), or never a webhook's.
    """
    if isinstance(address, IPv6Address):
        embedded = _embedded(address)
        if embedded is not None:
            address = embedded
    private = any(address in network for network in _PRIVATE)
    if private and not allow_private:
        raise TargetRefused("is at a private address, which this server does not call")
    special = isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST
    if not private and (special or any(address in network for network in _NEVER)):
        raise TargetRefused("is at an address that is no host's on the internet")


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets to this one reach in the end."""
    if address in _MAPPED or address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & 0xFFFF_FFFF)
    return None


def _check_host(host: str, *, bracketed: bool, allow_private: bool) -> None:
    if bracketed or _NUMERIC.fullmatch(host.rsplit(".", 1)[-1]):
        try:
            # Strict: four decimals without leading zeros. Resolvers also take 127.1, 0x7f000001, 017700000001 and
            # 2130706433 for addresses; nobody means well with them.
            address = ip_address(host)
        except ValueError:
            raise TargetRefused("does not name a host; write IPv4 addresses as four decimal numbers") from None
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            raise TargetRefused("must not name a network interface")
        check_address(address, allow_private=allow_private)
        return
    if not _NAME.fullmatch(host) or len(host) > 253:  # noqa: PLR2004 -- the longest name that DNS has
        raise TargetRefused("does not name a host; write international names in their ASCII form (xn--…)")
    local = "." not in host or host.endswith(_LOCAL)
    if local and not allow_private:
        raise TargetRefused("names a host of the local network, which this server does not call")
