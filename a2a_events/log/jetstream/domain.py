"""The same connection, asking JetStream in another domain: behind leaf nodes, in another region."""

from __future__ import annotations

from a2a_events import limits
from a2a_events.log.jetstream.connection import Answer, Answers, Connection, Subscription
from a2a_events.log.jetstream.wire import Sink

_API = "$JS.API."


class DomainConnection(Connection):
    """A view of a connection: what is asked of JetStream goes to a domain, all else goes as it is.

    Closing it does nothing: the connection is its owner's.

    Args:
        connection: to the servers here.
        domain: name of the JetStream domain.
    """

    def __init__(self, connection: Connection, domain: str) -> None:  # the view has no state of its own
        self._connection = connection
        self._prefix = f"$JS.{domain}.API."
        self.on_return = connection.on_return

    @property
    def connected(self) -> bool:
        """See ``Connection``."""
        return self._connection.connected

    def new_inbox(self) -> str:
        """See ``Connection``."""
        return self._connection.new_inbox()

    @property
    def max_payload(self) -> int:
        """See ``Connection``."""
        return self._connection.max_payload

    async def close(self) -> None:
        """Nothing: the connection is its owner's."""

    async def publish(self, subject: str, payload: bytes, *, headers: bytes = b"", reply: str = "") -> None:
        """See ``Connection``."""
        await self._connection.publish(self._there(subject), payload, headers=headers, reply=reply)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: bytes = b"",
        timeout: float = limits.REQUEST_TIMEOUT_SECONDS,
    ) -> Answer:
        """See ``Connection``."""
        return await self._connection.request(self._there(subject), payload, headers=headers, timeout=timeout)

    async def request_many(self, subject: str, payload: bytes, *, timeout: float) -> Answers:
        """See ``Connection``."""
        return await self._connection.request_many(self._there(subject), payload, timeout=timeout)

    async def subscribe(self, subject: str, sink: Sink) -> Subscription:
        """See ``Connection``."""
        return await self._connection.subscribe(subject, sink)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """See ``Connection``."""
        await self._connection.unsubscribe(subscription)

    def _there(self, subject: str) -> str:
        return self._prefix + subject[len(_API) :] if subject.startswith(_API) else subject
