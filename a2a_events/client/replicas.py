"""The agent behind any of its gateways: which one to ask, and when to ask again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from a2a_events.client.endpoint import Endpoint
from a2a_events.client.errors import ConnectionFailed, NoAnswer
from a2a_events.client.link import Frames
from a2a_events.client.operations import Request
from a2a_events.client.repetition import IDEMPOTENT_SEND, Repetition, SendKey
from a2a_events.client.retry import Attempts, Retry
from a2a_events.errors import UnavailableError
from a2a_events.model import AgentCard

T = TypeVar("T")

PASSING: Final = (ConnectionFailed, NoAnswer, UnavailableError)
"""What another gateway, or the same one a little later, may do better."""

_log = logging.getLogger("a2a_events.client")


class Replicas:
    """Gateways of one agent in the order in which to ask them: one that fails goes last.

    Args:
        endpoints: at least one.
        retry: the policy.
        patience_seconds: for an answer that a server gives at once.
    """

    def __init__(self, endpoints: Sequence[Endpoint], retry: Retry, patience_seconds: float | None) -> None:
        assert endpoints, "a client needs at least one base URL"
        self.patience_seconds = patience_seconds
        self.extensions: frozenset[str] = frozenset()
        """What the agent activated for its latest answer."""
        self._endpoints = list(endpoints)
        self._retry = retry

    @property
    def has_card(self) -> bool:
        """Whether the agent is known by its card, rather than by interfaces that were given."""
        return any(endpoint.has_card for endpoint in self._endpoints)

    def request_attempts(self) -> Attempts:
        """For one request: each gateway gets its chance."""
        return Attempts(self._retry, max(self._retry.requests, len(self._endpoints)) - 1)

    def stream_attempts(self) -> Attempts:
        """For a stream that lives on."""
        return Attempts(self._retry, self._retry.attempts)

    async def card(self) -> AgentCard:
        """The card of the first gateway that gives one.

        Raises:
            A2AError: refused.
            ClientError: see :class:`Endpoint`.
        """
        return await self._attempt(Endpoint.card, self.request_attempts())

    async def ask(
        self,
        request: Request,
        *,
        attempts: Attempts | None = None,
        repetition: Repetition = Repetition.ALWAYS,
        key: SendKey | None = None,
        patience_seconds: float | None,
    ) -> bytes:
        """One operation that answers once: the JSON of its result.

        Args:
            request: what to ask.
            attempts: counts the failures; None: as many as for any request.
            repetition: whether to send it again when it may have taken effect; what was not sent is always repeated.
            key: under which a message is sent; says by itself when to send it again.
            patience_seconds: for the whole answer; None: no limit.

        Raises:
            A2AError: the server's error.
            ClientError: no answer, after all attempts.
        """

        async def work(endpoint: Endpoint) -> bytes:
            link = await endpoint.link()
            reply = await link.ask(request, _headers(key, endpoint), patience_seconds)
            self.extensions = reply.extensions
            return reply.raw

        repetition = repetition if key is None else key.repetition
        return await self._attempt(work, attempts or self.request_attempts(), repetition)

    async def open(
        self,
        request: Request,
        attempts: Attempts,
        *,
        key: SendKey | None = None,
        unsettled: Exception | None = None,
        headers: Mapping[str, str] | None = None,
        patience_seconds: float | None,
        floor_seconds: float = 0.0,
    ) -> tuple[Endpoint, Frames]:
        """One operation that answers with a stream. See :meth:`ask`.

        Args:
            request: what to ask.
            attempts: counts the failures.
            key: as for :meth:`ask`.
            unsettled: how it failed before, if it may have taken effect then.
            headers: for this request.
            patience_seconds: for the beginning of the answer; None: no limit.
            floor_seconds: waited in any case.
        """

        async def work(endpoint: Endpoint) -> tuple[Endpoint, Frames]:
            link = await endpoint.link()
            frames = await link.open(request, {**(headers or {}), **_headers(key, endpoint)}, patience_seconds)
            self.extensions = frames.extensions
            return endpoint, frames

        floor_seconds = min(floor_seconds, self._retry.longest_seconds)
        repetition = Repetition.ALWAYS if key is None else key.repetition
        return await self._attempt(work, attempts, repetition, unsettled, floor_seconds=floor_seconds)

    async def aclose(self) -> None:
        """Close what belongs to the endpoints alone."""
        for endpoint in self._endpoints:
            await endpoint.aclose()

    def failed(self, endpoint: Endpoint, error: Exception) -> None:
        """Ask the others first from now on."""
        _log.info("%s failed (%s) and goes last", endpoint.base, type(error).__name__)
        endpoint.failed(error)
        self._endpoints.remove(endpoint)
        self._endpoints.append(endpoint)

    async def _attempt(
        self,
        work: Callable[[Endpoint], Awaitable[T]],
        attempts: Attempts,
        repetition: Repetition = Repetition.ALWAYS,
        unsettled: Exception | None = None,
        *,
        floor_seconds: float = 0.0,
    ) -> T:
        """Work until it succeeds; ``unsettled`` is how it failed last when it may have taken effect all the same."""
        while True:
            endpoint = min(self._endpoints, key=lambda e: e.wait_seconds)  # the first of those that are free
            await attempts.wait(max(floor_seconds, endpoint.wait_seconds))
            try:
                if unsettled is not None and repetition is Repetition.KEYED:
                    await endpoint.link()
                    if not endpoint.declares(IDEMPOTENT_SEND):
                        break  # a gateway of another version: it would take the message a second time
                return await work(endpoint)
            except PASSING as error:
                if isinstance(error, NoAnswer):
                    error.retry_safe = repetition is Repetition.ALWAYS
                self.failed(endpoint, error)
                untouched = isinstance(error, ConnectionFailed) or (
                    isinstance(error, UnavailableError) and error.untouched
                )
                if not untouched:
                    if not repeatable(repetition, endpoint):
                        raise
                    if unsettled is None and repetition is Repetition.KEYED:
                        attempts = self.stream_attempts()  # somebody is there: a roll-out or a fail-over passes
                    unsettled = error
                attempts.failed(error)
        assert unsettled is not None
        raise unsettled


def _headers(key: SendKey | None, endpoint: Endpoint) -> dict[str, str]:
    return {} if key is None else key.headers(endpoint.says(IDEMPOTENT_SEND, "home"))


def repeatable(repetition: Repetition, endpoint: Endpoint) -> bool:
    """Whether what an endpoint may have taken may be sent again."""
    return repetition is Repetition.ALWAYS or (repetition is Repetition.KEYED and endpoint.declares(IDEMPOTENT_SEND))
