"""One way to the agent: the card found under a base URL, and the interface that it offers."""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urljoin

import msgspec

from a2a_events.client.answers import Answer, read
from a2a_events.client.errors import BadAnswer, ConnectionFailed, NoAnswer
from a2a_events.client.http_json import HttpJson
from a2a_events.client.jsonrpc import JsonRpc
from a2a_events.client.retry import wanted_seconds
from a2a_events.client.transport import Binding, Call, Http, refused
from a2a_events.errors import UnavailableError
from a2a_events.model import AgentCard, AgentInterface

BindingName: TypeAlias = Literal["JSONRPC", "HTTP+JSON"]
"""The bindings that this client speaks, by the names that cards use."""

BINDINGS: Final[dict[str, Binding]] = {"JSONRPC": JsonRpc(), "HTTP+JSON": HttpJson()}
WELL_KNOWN: Final = "/.well-known/agent-card.json"

_MAX_AGE: Final = re.compile(r"(?:^|,)\s*max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_NOT_KEPT: Final = re.compile(r"(?:^|,)\s*no-(?:store|cache)\b", re.IGNORECASE)
_SPOKEN: Final = re.compile(r"1(?:\.\d+)*")


class Endpoint:
    """A base URL with its card, or an interface given as it is.

    Args:
        http: sends the calls.
        address: where the agent's card is found, or an interface for which no card is needed.
        binding: the only binding to use; None: the first that both sides speak, in the card's order.
        patience_seconds: for the card.
    """

    def __init__(
        self, http: Http, address: str | AgentInterface, binding: BindingName | None, patience_seconds: float | None
    ) -> None:
        self.base = address if isinstance(address, str) else address.url
        self._given = None if isinstance(address, str) else address
        self._http = http
        self._binding = binding
        self._patience_seconds = patience_seconds
        self._card: AgentCard | None = None
        self._validators: dict[str, str] = {}
        self._fresh_until = 0.0
        self._usable = False
        self._free_at = 0.0

    @property
    def wait_seconds(self) -> float:
        """How long this endpoint asked not to be used."""
        return max(0.0, self._free_at - time.monotonic())

    def failed(self, error: Exception) -> None:
        """It did not answer: look at its card again before it is used the next time, and not sooner than it wants."""
        self._usable = False
        self._free_at = time.monotonic() + wanted_seconds(error)

    async def interface(self) -> AgentInterface:
        """Where and how to call. The card is asked for once, and again after a failure.

        Raises:
            ConnectionFailed: no card could be had; the call it was for was not sent.
            A2AError: the server refused its card.
            BadAnswer: the card cannot be read, or offers nothing that this client speaks.
        """
        if self._given:
            return self._given
        if not self._usable or self._card is None:
            try:
                await self.card()
            except (NoAnswer, UnavailableError) as error:
                raise ConnectionFailed(error.message, retry_after_seconds=wanted_seconds(error)) from error
        assert self._card is not None
        self._usable = True
        return self._choose(self._card)

    async def card(self) -> AgentCard:
        """The agent's card: the one at hand while it is fresh, otherwise revalidated by its ETag or date (RFC 9111).

        Raises:
            ConnectionFailed: not reached.
            NoAnswer: reached, no answer.
            A2AError: the server refused its card.
            BadAnswer: not a card.
        """
        if self._card is not None and (time.monotonic() < self._fresh_until):
            return self._card
        call = Call(url=f"{self.base.rstrip('/')}{WELL_KNOWN}", method="GET", headers={"Accept": "application/json"})
        answer = await self._http.fetch(call, self._validators, self._patience_seconds)
        if answer.status == HTTPStatus.NOT_MODIFIED and self._card is not None:
            self._fresh_until = _fresh_until(answer)
            return self._card
        if not answer.ok:
            raise refused(answer) if answer.status != HTTPStatus.NOT_FOUND else BadAnswer(f"No card at {answer.url}")
        self._card = _read_card(answer)
        self._fresh_until = _fresh_until(answer)
        self._validators = {
            request: answer.headers[header]
            for request, header in (("If-None-Match", "etag"), ("If-Modified-Since", "last-modified"))
            if header in answer.headers
        }
        return self._card

    def _choose(self, card: AgentCard) -> AgentInterface:
        spoken = {self._binding} if self._binding else BINDINGS.keys()
        for offered in card.supported_interfaces:
            if offered.protocol_binding in spoken and _SPOKEN.fullmatch(offered.protocol_version):
                return msgspec.structs.replace(offered, url=urljoin(f"{self.base.rstrip('/')}/", offered.url))
        wanted = " or ".join(sorted(spoken))
        offers = ", ".join(f"{i.protocol_binding} {i.protocol_version}" for i in card.supported_interfaces) or "nothing"
        raise BadAnswer(f"The card at {self.base} offers {offers}; this client speaks {wanted} of A2A 1.0")


def _fresh_until(answer: Answer) -> float:
    control = answer.headers.get("cache-control", "")
    age = _MAX_AGE.search(control)
    if age is None or _NOT_KEPT.search(control):
        return 0.0
    passed = answer.headers.get("age", "")
    return time.monotonic() + int(age[1]) - (int(passed[:9]) if passed.isascii() and passed.isdecimal() else 0)


def _read_card(answer: Answer) -> AgentCard:
    # ProtoJSON leaves out what is empty, also what is required: no reason to refuse an agent.
    blank: dict[str, Any] = {"name": "", "description": "", "version": "", "capabilities": {}, "skills": []}
    blank |= {"supportedInterfaces": [], "defaultInputModes": [], "defaultOutputModes": []}
    try:
        members = msgspec.json.decode(answer.body, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"The card at {answer.url} is not a JSON object") from error
    return read(msgspec.json.encode(blank | members), AgentCard)
