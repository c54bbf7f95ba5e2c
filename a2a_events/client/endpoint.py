"""One way to the agent: the card found under a base URL, and the interface that it offers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from importlib.util import find_spec
from typing import Any, Final, Literal, TypeAlias, get_args
from urllib.parse import urljoin, urlsplit

import msgspec
from msgspec import Struct

from a2a_events import limits
from a2a_events.client import v0_3
from a2a_events.client.answers import Answer, read_with, refused
from a2a_events.client.card_keys import CardKeys, is_secure
from a2a_events.client.errors import BadAnswer, CardNotTrusted, ConnectionFailed, NoAnswer
from a2a_events.client.http_json import HttpJson
from a2a_events.client.http_link import Http, HttpLink
from a2a_events.client.jsonrpc import JsonRpc
from a2a_events.client.link import Binding, Call, Link
from a2a_events.client.replay import REPLAY_EXTENSION
from a2a_events.client.retry import wanted_seconds
from a2a_events.client.v0_3.read import card as legacy_card
from a2a_events.errors import UnauthenticatedError, UnavailableError
from a2a_events.model import AgentCard, AgentInterface

BindingName: TypeAlias = Literal["JSONRPC", "HTTP+JSON", "GRPC"]
"""The bindings that this client speaks, by the names that cards use. GRPC needs the extra ``grpc``."""

WELL_KNOWN: Final = "/.well-known/agent-card.json"

_OVER_HTTP: Final[dict[tuple[str, str], Binding]] = {
    ("JSONRPC", "1.0"): JsonRpc(),
    ("HTTP+JSON", "1.0"): HttpJson(),
    ("JSONRPC", "0.3"): v0_3.JsonRpc(),
    ("HTTP+JSON", "0.3"): v0_3.HttpJson(),
}
_MAX_AGE: Final = re.compile(r"(?:^|,)\s*max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_NOT_KEPT: Final = re.compile(r"(?:^|,)\s*no-(?:store|cache)\b", re.IGNORECASE)
_VERSIONS: Final = {"1.0": re.compile(r"1(?:\.\d+)*"), "0.3": re.compile(r"0\.3(?:\.\d+)*")}
"""What this client speaks, the preferred one first, and the version numbers that mean it."""
_SPOKEN: Final = {*_OVER_HTTP, ("GRPC", "1.0")}


class Wishes(Struct, frozen=True, kw_only=True):
    """What the caller wants of every interface.

    Args:
        bindings: to choose from, in order of preference; empty: all that can be spoken, in the card's order.
        extensions: to ask for; over gRPC the replay extension as well, where the card declares it.
        make_channel: makes gRPC channels; None: see :class:`~a2a_events.client.grpc_link.GrpcLink`.
        card_keys: checks cards; None: they are believed.
    """

    bindings: Sequence[BindingName] = ()
    extensions: Sequence[str] = ()
    make_channel: Callable[[str], Any] | None = None
    card_keys: CardKeys | None = None


class Endpoint:
    """A base URL with its card, or an interface given as it is.

    Args:
        http: sends the calls.
        address: the base under which the card is found, or the card's own URL, which ends in ``.json``; or an interface
            for which no card is needed.
        wishes: of the caller.
        patience_seconds: for the card.
    """

    def __init__(
        self, http: Http, address: str | AgentInterface, wishes: Wishes, patience_seconds: float | None
    ) -> None:
        self.base = address if isinstance(address, str) else address.url
        self._given = None if isinstance(address, str) else address
        self._http = http
        self._wishes = wishes
        self._patience_seconds = patience_seconds
        self._card: AgentCard | None = None
        self._answer: Answer | None = None
        """The card as it came."""
        self._checked = 0.0
        self._fresh_until = 0.0
        self._usable = False
        self._free_at = 0.0
        self._links: dict[tuple[AgentInterface, tuple[str, ...]], Link] = {}
        self._chosen: tuple[AgentCard, Link] | None = None

    @property
    def has_card(self) -> bool:
        """Whether a card is to be found here."""
        return self._given is None

    def declares(self, extension: str) -> bool:
        """Whether the card, as it was last seen, names an extension; not where no card is to be found."""
        return self._card is not None and any(e.uri == extension for e in self._card.capabilities.extensions)

    def says(self, extension: str, name: str) -> str:
        """A parameter of an extension as the card last had it; empty if it has none, or it is no text."""
        extensions = self._card.capabilities.extensions if self._card is not None else ()
        for found in (e.params[name] for e in extensions if e.uri == extension and e.params and name in e.params):
            return found if isinstance(found, str) else ""
        return ""

    @property
    def wait_seconds(self) -> float:
        """How long this endpoint asked not to be used."""
        return max(0.0, self._free_at - time.monotonic())

    def failed(self, error: Exception) -> None:
        """It did not answer: look at its card again before it is used the next time, and not sooner than it wants."""
        self._usable = False
        self._free_at = time.monotonic() + wanted_seconds(error)

    async def link(self) -> Link:
        """The interface to use. The card is asked for once, and again after a failure.

        Raises:
            ConnectionFailed: no card could be had; the call it was for was not sent.
            A2AError: the server refused its card.
            BadAnswer: the card cannot be read, or offers nothing that this client speaks.
            CardNotTrusted: it is none that may be believed.
        """
        extensions = tuple(self._wishes.extensions)
        if self._given:
            return self._linked(self._given, extensions)
        if self._usable and self._answer is not None and self._is_due:
            with suppress(CardNotTrusted):  # what is there now may have been signed with another key
                await self._believe(self._answer)
        if not self._usable or self._card is None:
            try:
                await self.card()
            except (NoAnswer, UnavailableError) as error:
                raise ConnectionFailed(error.message, retry_after_seconds=wanted_seconds(error)) from error
        assert self._card is not None
        self._usable = True
        if self._chosen is None or self._chosen[0] is not self._card:
            self._chosen = (self._card, self._link_of(self._card, extensions))
        return self._chosen[1]

    async def aclose(self) -> None:
        """Close what the links opened for themselves."""
        for link in self._links.values():
            await link.aclose()

    async def card(self) -> AgentCard:
        """The agent's card: the one at hand while it is fresh, otherwise revalidated by its ETag or date (RFC 9111).

        Where cards are checked, credentials are shown for one only after a 401, and only where nobody can listen.
        ``Cache-Control``, which nobody signs, then keeps it no longer than ``limits.JWKS_FRESH_SECONDS``.

        Raises:
            ConnectionFailed: not reached.
            NoAnswer: reached, no answer.
            A2AError: the server refused its card.
            BadAnswer: not a card.
            CardNotTrusted: not one that may be believed.
        """
        if self._card is not None and time.monotonic() < self._fresh_until and not self._is_due:
            return self._card
        known = self._answer
        answer = await self._fetch_card(_validators(known))
        if answer.status == HTTPStatus.NOT_MODIFIED and known is not None:
            card = await self._believe(known)
        elif answer.ok:
            card = await self._believe(answer)
        else:
            raise refused(answer) if answer.status != HTTPStatus.NOT_FOUND else BadAnswer(f"No card at {answer.url}")
        self._fresh_until = _fresh_until(answer)
        return card

    @property
    def _is_due(self) -> bool:
        """Whether the card at hand has to be checked again: a key may have come to its end since."""
        return self._wishes.card_keys is not None and time.monotonic() - self._checked > limits.JWKS_FRESH_SECONDS

    async def _fetch_card(self, validators: Mapping[str, str]) -> Answer:
        call = Call(url=self._card_url(), method="GET", headers={"Accept": "application/json"})
        if self._wishes.card_keys is not None:
            answer = await self._http.fetch(call, validators, self._patience_seconds, anonymous=True)
            if answer.status != HTTPStatus.UNAUTHORIZED:
                return answer
            if not is_secure(call.url):
                raise UnauthenticatedError(
                    f"{answer.url} wants credentials for the card, and whoever stands between can want them too: "
                    "a client that checks cards shows credentials for one over HTTPS only"
                )
        return await self._http.fetch(call, validators, self._patience_seconds)

    async def _believe(self, answer: Answer) -> AgentCard:
        """Go by the card in an answer, once more if it is the one at hand; by none if it is not to be trusted."""
        try:
            card = await self._read(answer)
        except CardNotTrusted:
            self._card = self._answer = None
            raise
        if self._card is None or card != self._card:
            self._card = card
        self._answer = answer
        self._checked = time.monotonic()
        return self._card

    async def _read(self, answer: Answer) -> AgentCard:
        keys = self._wishes.card_keys
        if keys is None:
            return _read_card(answer)
        verified = await keys.verified(answer.body, answer.url, self._http.document)
        return _read_card(msgspec.structs.replace(answer, body=verified))

    def _link_of(self, card: AgentCard, extensions: tuple[str, ...]) -> Link:
        chosen = self._choose(card)
        declared = {extension.uri for extension in card.capabilities.extensions}
        # Server-sent events have their cursor as ``id:``; gRPC has no other place for it than the extension's.
        if chosen.protocol_binding == "GRPC" and REPLAY_EXTENSION in declared - set(extensions):
            extensions = (*extensions, REPLAY_EXTENSION)
        return self._linked(chosen, extensions)

    def _choose(self, card: AgentCard) -> AgentInterface:
        offers = card.supported_interfaces
        if self._wishes.bindings:
            spoken: Sequence[str] = self._wishes.bindings
            usable = [each for binding in spoken for each in offers if each.protocol_binding == binding]
        else:
            spoken = _speakable()
            usable = [each for each in offers if each.protocol_binding in spoken]
        # 0.3 only where the card offers nothing newer: falling back in silence would hide what is broken.
        for version in _VERSIONS:
            for offered in usable:
                if version == version_of(offered):
                    return self._absolute(offered)
        wanted = " or ".join(sorted(spoken))
        given = ", ".join(f"{each.protocol_binding} {each.protocol_version}" for each in offers) or "nothing"
        raise BadAnswer(f"The card at {self.base} offers {given}; this client speaks {wanted} of A2A 1.0 or 0.3")

    def _absolute(self, offered: AgentInterface) -> AgentInterface:
        if offered.protocol_binding == "GRPC":
            return offered
        base = self.base if self._is_card() else f"{self.base.rstrip('/')}/"
        return msgspec.structs.replace(offered, url=urljoin(base, offered.url))

    def _is_card(self) -> bool:
        return urlsplit(self.base).path.endswith(".json")

    def _card_url(self) -> str:
        return self.base if self._is_card() else f"{self.base.rstrip('/')}{WELL_KNOWN}"

    def _linked(self, at: AgentInterface, extensions: tuple[str, ...]) -> Link:
        link = self._links.get((at, extensions))
        if link is None:
            link = self._links[at, extensions] = self._made(at, extensions)
        return link

    def _made(self, at: AgentInterface, extensions: tuple[str, ...]) -> Link:
        if at.protocol_binding == "GRPC":
            return _grpc(at, self._http, extensions, self._wishes.make_channel)
        version = version_of(at)
        assert version, "the client refuses interfaces that it cannot speak to, and the card's are chosen"
        return HttpLink(self._http, _OVER_HTTP[at.protocol_binding, version], at, extensions)


def version_of(interface: AgentInterface) -> str | None:
    """The version in which this client speaks to an interface; None if it cannot."""
    for version, pattern in _VERSIONS.items():
        if pattern.fullmatch(interface.protocol_version) and (interface.protocol_binding, version) in _SPOKEN:
            return version
    return None


def _speakable() -> tuple[str, ...]:
    grpc = all(find_spec(name) for name in ("grpc", "a2a"))
    return tuple(name for name in get_args(BindingName) if name != "GRPC" or grpc)


def _grpc(
    at: AgentInterface,
    http: Http,
    extensions: Sequence[str],
    make_channel: Callable[[str], Any] | None,
) -> Link:
    try:
        from a2a_events.client.grpc_link import GrpcLink  # noqa: PLC0415 -- an optional dependency, and slow to import
    except ImportError as error:
        raise BadAnswer("To speak gRPC, install the extra: a2a-events[grpc]") from error
    return GrpcLink(at, http.headers, extensions, make_channel, http.credentials)


def _validators(answer: Answer | None) -> dict[str, str]:
    named = (("If-None-Match", "etag"), ("If-Modified-Since", "last-modified"))
    return {request: answer.headers[header] for request, header in named if answer and header in answer.headers}


def _fresh_until(answer: Answer) -> float:
    control = answer.headers.get("cache-control", "")
    age = _MAX_AGE.search(control)
    if age is None or _NOT_KEPT.search(control):
        return 0.0
    passed = answer.headers.get("age", "")
    return time.monotonic() + int(age[1]) - (int(passed[:9]) if passed.isascii() and passed.isdecimal() else 0)


def _read_card(answer: Answer) -> AgentCard:
    try:
        members = msgspec.json.decode(answer.body, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"The card at {answer.url} is not a JSON object") from error
    if not members.get("supportedInterfaces") and "supported_interfaces" not in members and "url" in members:
        members = legacy_card(members)
    return read_card(msgspec.json.encode(members))


def read_card(raw: bytes) -> AgentCard:
    """An agent card as servers write it.

    Raises:
        BadAnswer: this is none.
    """
    # ProtoJSON leaves out what is empty, also what is required: no reason to refuse an agent.
    blank: dict[str, Any] = {"name": "", "description": "", "version": "", "capabilities": {}, "skills": []}
    blank |= {"supportedInterfaces": [], "defaultInputModes": [], "defaultOutputModes": []}
    return read_with(blank, raw, AgentCard)
