"""One connection to NATS that outlives servers: it reconnects for ever, and rebuilds a client closed for good.

Some answers of a server close nats-py's client without a way back (a violation of limits or permissions); the watchdog
makes a new client then and restores every subscription, so that no state of this process needs to know.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct
from nats import errors as nats_errors
from nats.aio.client import Client

from a2a_events import limits
from a2a_events.errors import Forbidden, Unavailable, Uncertain
from a2a_events.log.jetstream.names import INBOX
from a2a_events.log.jetstream.read_budget import ReadBudget
from a2a_events.log.jetstream.wire import RawClient, RawWire, Sink, StockWire, Wire, raw_is_safe
from a2a_events.metrics.catalog import NATS_RECONNECTS

PING_SECONDS: Final = 3
"""A server that hangs is noticed after two missed pings; nats-py's default takes four minutes."""
NO_RESPONDERS: Final = b"NATS/1.0 503"
_SEED: Final = b"SU"
"""How the seed of a user's nkey begins; credentials files begin with a line of dashes."""
_CANCEL_SECONDS: Final = 0.1
"""When a cancellation that has not ended its task is taken to be lost."""
_FORBIDDEN: Final = re.compile(r'permissions violation for (publish to|subscription to) "([^"]+)"')

logger = structlog.get_logger(__name__)


class NobodyServes(Unavailable):
    """The servers have nobody for the subject: a stream that is missing, without a leader, or cut off."""


class Answer(Struct, frozen=True):
    """One message that answers a request."""

    subject: str
    headers: bytes
    payload: bytes


class Subscription:
    """A sink's claim on a subject, kept through reconnects and rebuilt clients."""

    __slots__ = ("sink", "subject", "token")

    def __init__(self, subject: str, sink: Sink) -> None:
        self.subject = subject
        self.sink = sink
        self.token: Any = None


class Connection:
    """A connection with its own request/reply inbox.

    Args:
        urls: servers of one cluster.
        name: shown in the server's monitoring.
        credentials: path of a NATS credentials file, or of one with the seed of an nkey; None: nobody in particular.
        tls: for servers that want it.
        raw: whether to use our own framing (``wire.RawWire``); None: where it is safe.
        inbox: below which it hears answers (``Names.inbox``), where its user may not hear everybody's.
    """

    def __init__(
        self,
        urls: list[str],
        *,
        name: str,
        credentials: str | None = None,
        tls: ssl.SSLContext | None = None,
        raw: bool | None = None,
        inbox: str = INBOX,
    ) -> None:
        self._urls = urls
        self._name = name
        self._credentials = credentials
        self._tls = tls
        self._raw = raw_is_safe() if raw is None else raw
        self._wire: Wire | None = None
        self._subscriptions: set[Subscription] = set()
        self._inboxes = inbox
        self._inbox = self.new_inbox()
        self._tokens = itertools.count()
        self._waiting: dict[str, tuple[str, asyncio.Future[Answer]]] = {}
        """Subject and answer of each request under way, by token."""
        self._streams: dict[str, tuple[str, asyncio.Queue[Answer | Forbidden | None]]] = {}
        self._deaf = ""
        """Why no answer can be heard; empty where answers can."""
        self._closing = False
        self._rebuilding: asyncio.Task[None] | None = None
        self.reads = ReadBudget()
        """What batched reads may ask for at once."""
        self.on_return: list[Callable[[], None]] = []
        """Called after each reconnect: what was missed must be read from the log."""
        self.reconnects = 0
        self.closed_since = 0.0
        """When nats-py closed its client for good, or another one was last tried (``time.monotonic``); 0 while there is
        one."""

    @property
    def connected(self) -> bool:
        """Whether a server is there right now."""
        return self._wire is not None and bool(self._wire.client.is_connected)

    @property
    def certificate_end(self) -> float:
        """When the certificate ends that the server has shown, seconds since 1970; 0 without TLS."""
        transport: Any = getattr(self._wire.client, "_transport", None) if self._wire else None
        writer = getattr(transport, "_io_writer", None)
        shown: dict[str, str] = (writer.get_extra_info("peercert") if writer is not None else None) or {}
        return float(ssl.cert_time_to_seconds(shown["notAfter"])) if "notAfter" in shown else 0.0

    def new_inbox(self) -> str:
        """A subject of its own for answers, and others below it; nobody guesses it."""
        return f"{self._inboxes}.{os.urandom(12).hex()}"

    @property
    def max_payload(self) -> int:
        """Bytes of headers and payload that the server takes in one message."""
        return int(self._wire.client.max_payload) if self._wire else 1024 * 1024

    async def open(self, *, patience_seconds: float = 30.0) -> None:
        """Connect; retried until a server answers.

        Raises:
            Unavailable: no server answered in time.
        """
        # nats-py's client tries for ever once it has begun; whoever waits wants to hear that nobody answers.
        building = asyncio.get_running_loop().create_task(self._build_until_it_stands())
        try:
            await asyncio.wait({building}, timeout=patience_seconds)
        finally:
            await _end(building)
        if building.cancelled():
            raise Unavailable("no NATS server answers")  # where is for who knows what of the addresses is secret
        building.result()
        self._subscriptions.add(inbox := Subscription(f"{self._inbox}.*", self._answer))
        await self._subscribe(inbox)

    async def _build_until_it_stands(self) -> None:
        while True:
            try:
                return await self._build()
            except (OSError, TimeoutError, nats_errors.Error) as error:
                logger.debug("nats unreachable", error=str(error) or type(error).__name__)
                await asyncio.sleep(0.2)

    async def close(self) -> None:
        """Send what waits, then disconnect. Requests under way end as unavailable."""
        self._closing = True
        if self._rebuilding is not None:
            await _end(self._rebuilding)
        wire, self._wire = self._wire, None
        if wire is not None and not wire.client.is_closed:
            await wire.client.close()
        self._fail_requests("the connection was closed")

    async def publish(self, subject: str, payload: bytes, *, headers: bytes = b"", reply: str = "") -> None:
        """Send one message, without an answer. Returns before it is on the wire.

        Raises:
            Unavailable: not connected; nothing was sent.
        """
        wire = self._wire
        if wire is None or not wire.client.is_connected:
            raise Unavailable("not connected to NATS")
        assert len(subject) <= limits.SUBJECT_BYTES, "a subject this long would make the server close the connection"
        assert len(headers) + len(payload) <= self.max_payload, "as above: check sizes before"
        await wire.publish(subject, reply, headers, payload)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: bytes = b"",
        timeout: float = limits.REQUEST_TIMEOUT_SECONDS,
    ) -> Answer:
        """Send one message and wait for one answer.

        Raises:
            Unavailable: nobody serves the subject, or not connected: the request was not acted on.
            Uncertain: no answer in time, or the connection broke: it may have been.
            Forbidden: the server does not let this process ask, or hear the answer.
        """
        if self._deaf:
            raise Forbidden(self._deaf)
        token = format(next(self._tokens), "x")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[token] = (subject, answer)
        timer = asyncio.get_running_loop().call_later(timeout, _time_out, answer)
        try:
            await self.publish(subject, payload, headers=headers, reply=f"{self._inbox}.{token}")
            got = await answer
        finally:
            timer.cancel()
            self._waiting.pop(token, None)
        if got.headers.startswith(NO_RESPONDERS):
            raise NobodyServes(f"nobody serves {subject}")
        return got

    async def request_many(self, subject: str, payload: bytes, *, timeout: float) -> Answers:
        """Send one message and take any number of answers, each within the timeout after the one before."""
        token = format(next(self._tokens), "x")
        queue: asyncio.Queue[Answer | Forbidden | None] = asyncio.Queue()
        self._streams[token] = (subject, queue)
        answers = Answers(queue, timeout, lambda: self._streams.pop(token, None))
        try:
            await self.publish(subject, payload, reply=f"{self._inbox}.{token}")
        except BaseException:
            answers.close()
            raise
        return answers

    async def subscribe(self, subject: str, sink: Sink) -> Subscription:
        """Give a sink every message of a subject until :meth:`unsubscribe`, across reconnects and rebuilt clients."""
        subscription = Subscription(subject, sink)
        self._subscriptions.add(subscription)
        await self._subscribe(subscription)
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Take the sink back."""
        self._subscriptions.discard(subscription)
        wire, token = self._wire, subscription.token
        subscription.token = None
        if wire is not None and token is not None:
            try:
                await wire.unsubscribe(token)
            except nats_errors.Error:
                pass  # a client that is gone has no subscriptions

    async def _subscribe(self, subscription: Subscription) -> None:
        wire = self._wire
        if wire is None or wire.client.is_closed:
            return  # the watchdog subscribes everything when it has a client again
        subscription.token = await wire.subscribe(subscription.subject, subscription.sink)

    async def _build(self) -> None:
        client: Client = RawClient() if self._raw else Client()
        seed = _holds_seed(self._credentials)
        await client.connect(
            servers=self._urls,
            name=self._name,
            nkeys_seed=self._credentials if seed else None,
            user_credentials=None if seed else self._credentials,
            tls=self._tls,
            ping_interval=PING_SECONDS,
            max_outstanding_pings=2,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.25,  # type: ignore[arg-type]  # passed to asyncio.sleep and wait_for
            connect_timeout=3,
            allow_reconnect=True,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnect,
            reconnected_cb=self._on_reconnect,
            closed_cb=self._on_closed,
            pending_size=8 * 1024 * 1024,
        )
        self._wire = RawWire(client) if isinstance(client, RawClient) else StockWire(client)

    async def _on_error(self, error: Exception) -> None:
        forbidden = _FORBIDDEN.search(str(error))
        if forbidden is not None:
            logger.error("forbidden by nats", what=forbidden[1], subject=forbidden[2])
            self._forbidden(forbidden[1], forbidden[2])  # in lower case: so nats-py gives it
        elif not self._closing:
            logger.warning("nats error", error=str(error) or type(error).__name__)

    async def _on_disconnect(self) -> None:
        self._fail_requests("the connection broke")
        if not self._closing:
            logger.warning("nats disconnected")

    async def _on_reconnect(self) -> None:
        self.reconnects += 1
        NATS_RECONNECTS.inc()
        logger.info("nats reconnected", reconnects=self.reconnects)
        self._returned()

    async def _on_closed(self) -> None:
        self._fail_requests("the connection was closed")
        if not self._closing:
            self.closed_since = time.monotonic()
            self._rebuilding = asyncio.get_running_loop().create_task(self._rebuild())

    async def _rebuild(self) -> None:
        """The watchdog: nats-py has closed itself for good."""
        logger.error("nats client was closed for good; rebuilding it")
        pause = 0.1
        while True:
            try:
                await self._build()
                break
            except (OSError, TimeoutError, nats_errors.Error) as error:
                logger.warning("nats unreachable", error=str(error) or type(error).__name__)
                self.closed_since = time.monotonic()  # it is looked after; that no server takes it is no fault of ours
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)
        for subscription in list(self._subscriptions):
            await self._subscribe(subscription)
        self.closed_since = 0.0
        self.reconnects += 1
        NATS_RECONNECTS.inc()
        self._returned()

    def _returned(self) -> None:
        for callback in list(self.on_return):
            callback()

    def _fail_requests(self, why: str) -> None:
        for _, answer in list(self._waiting.values()):
            if not answer.done():
                answer.set_exception(Uncertain(why))
        for _, queue in list(self._streams.values()):
            queue.put_nowait(None)

    def _forbidden(self, what: str, subject: str) -> None:
        """The server refused something, and says no more about it: whoever waits for it must hear."""
        why = f"NATS forbids this process the {what} {subject}: give its user the permissions"
        deaf = subject == f"{self._inbox}.*".lower()
        if deaf:
            why += " of the role for which it listens there, or have it listen for the role of its user (NATS_ROLE)"
            self._deaf = why
        for asked, answer in list(self._waiting.values()):
            if (deaf or asked.lower() == subject) and not answer.done():
                answer.set_exception(Forbidden(why))
        for asked, queue in list(self._streams.values()):
            if deaf or asked.lower() == subject:
                queue.put_nowait(Forbidden(why))

    def _answer(self, subject: str, _reply: str, headers: bytes, payload: bytes) -> None:
        token = subject[len(self._inbox) + 1 :]
        waiting = self._waiting.get(token)
        if waiting is not None:
            if not waiting[1].done():
                waiting[1].set_result(Answer(subject, headers, payload))
            return
        stream = self._streams.get(token)
        if stream is not None:
            stream[1].put_nowait(Answer(subject, headers, payload))

    async def api(self, verb: str, payload: object = None, *, timeout: float = limits.REQUEST_TIMEOUT_SECONDS) -> Any:
        """One call of the JetStream API, decoded; errors are in its ``error`` member.

        Raises:
            Unavailable, Uncertain: as :meth:`request`.
        """
        body = b"" if payload is None else msgspec.json.encode(payload)
        answer = await self.request(f"$JS.API.{verb}", body, timeout=timeout)
        return msgspec.json.decode(answer.payload)


class Answers:
    """Answers as they come; None when no more will."""

    def __init__(
        self, queue: asyncio.Queue[Answer | Forbidden | None], timeout: float, close: Callable[[], object]
    ) -> None:
        self._queue = queue
        self._timeout = timeout
        self.close = close

    async def next(self) -> Answer | None:
        """The next answer, or None when the connection broke or none came in time.

        Raises:
            Forbidden: the server does not let this process ask.
        """
        try:
            async with asyncio.timeout(self._timeout):  # and not wait_for, which may swallow a cancellation
                answer = self._queue.get_nowait() if not self._queue.empty() else await self._queue.get()
        except TimeoutError:
            return None
        if isinstance(answer, Forbidden):
            raise answer
        return answer


def _time_out(answer: asyncio.Future[Answer]) -> None:
    if not answer.done():
        answer.set_exception(Uncertain("no answer in time"))


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task until it has ended: nats-py swallows cancellations, and so does ``wait_for`` before Python 3.12."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_SECONDS)


def _holds_seed(credentials: str | None) -> bool:
    """Whether a file is the seed of an nkey and nothing else: of a user that the server knows by the public half."""
    if credentials is None:
        return False
    with Path(credentials).open("rb") as file:
        return file.read(len(_SEED)) == _SEED
