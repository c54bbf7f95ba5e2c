"""Receiving push notifications: whom to believe, what is new, and what to answer (specification 4.3.3 and 13.2).

A complete service, to be run with ``uvicorn service:app``::

    import secrets

    from a2a_events.client import Client, Receiver, ReceiverApp, Update
    from a2a_events.model import TaskPushNotificationConfig

    receiver = Receiver()


    async def handle(update: Update) -> None:
        print(update.task_id, update.state or update.artifact)


    app = ReceiverApp(receiver, handle)  # a path of any ASGI framework will do as well


    async def start(text: str) -> None:
        webhook = TaskPushNotificationConfig(url="https://me.example/push", token=secrets.token_urlsafe())
        receiver.expect(webhook)  # before sending: the first update may be faster than the answer
        async with Client("https://agent.example") as client:
            await client.send(text, push=webhook, return_immediately=True)

With another framework, hand :meth:`Receiver.receive` the headers and the body, and answer with the status it returns.

What a receiver may rely on is less than what a stream gives: senders repeat what got no answer, and what a sender gave
up on never comes. With a server of this project (replay extension) each update carries its revision, so that nothing is
handled twice; ``client.get`` or ``client.subscribe(task_id, update.cursor)`` fills a gap.
"""

from __future__ import annotations

import asyncio
import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from hashlib import blake2b
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import msgspec

from a2a_events.client.answers import read_update
from a2a_events.client.errors import BadAnswer
from a2a_events.client.replay import mark_of
from a2a_events.client.stream import Update
from a2a_events.client.v0_3 import read as v0_3
from a2a_events.model import TERMINAL_STATES, StreamResponse, TaskPushNotificationConfig, encode

Handle: TypeAlias = Callable[[Update], Awaitable[None]]
"""What is done with an update. If it raises, the sender is told to come again."""

BODY_BYTES: Final = 16 * 1024 * 1024
"""Largest notification: a 0.3 server sends the whole task with each."""
REMEMBERED_ENDED: Final = 1024
"""Tasks that have ended and are still expected: a sender that missed our answer comes again."""
REMEMBERED_WAITING: Final = 4096
"""Webhooks that wait for their first task; the oldest are of messages that failed, or were answered without one."""
REMEMBERED_UPDATES: Final = 256
"""Updates of one webhook whose repetition is noticed where the server does not number them."""
TOKEN_HEADER: Final = "x-a2a-notification-token"  # noqa: S105 -- the name of a header

_MEMBERS: Final = frozenset(StreamResponse.__struct_encode_fields__)


class Receiver:
    """The updates that were asked for, each once where that can be told, and in order.

    - A notification counts only if it is for an expected task and carries the credentials of that task's webhook;
      comparing takes the same time wherever they differ. A wrong task and wrong credentials look alike to the sender.
    - Where updates are numbered (replay extension), one that is not newer than the last is answered and not handled.
    - Elsewhere one that is the same, byte for byte, as one before is a repetition. Pieces that are appended to an
      artifact are the exception: two equal ones may well be two, and are handled both.
    - Updates of one webhook are handled one after another; different webhooks do not wait for each other.
    - What a handler did not finish is not remembered: the sender's repetition is handled anew.

    What it remembers is in memory: after a restart, ``expect`` again, with the last revision that was handled.
    """

    def __init__(self) -> None:
        self._bound: dict[str, list[_Expected]] = {}
        self._unbound: list[_Expected] = []
        self._ended: OrderedDict[str, None] = OrderedDict()

    def expect(self, config: TaskPushNotificationConfig, *, after: int = 0) -> None:
        """Believe what comes with the credentials of this webhook.

        Args:
            config: as given to the server. Without a ``task_id`` it is for the first task that comes with its
                credentials: give each its own token.
            after: the last revision that was handled already.

        Raises:
            ValueError: the config has neither a token nor credentials, so that anybody could pretend.
        """
        if not config.token and not (config.authentication and config.authentication.credentials):
            raise ValueError("a webhook needs a token or credentials, or anybody could pretend to be the agent")
        expected = _Expected(config, after)
        if config.task_id:
            self._bound.setdefault(config.task_id, []).append(expected)
        else:
            self._unbound.append(expected)
            del self._unbound[:-REMEMBERED_WAITING]

    def forget(self, task_id: str) -> None:
        """Believe nothing about this task any more. Tasks that have ended are forgotten by and by."""
        self._bound.pop(task_id, None)
        self._ended.pop(task_id, None)

    async def receive(self, headers: Mapping[str, str], body: bytes, handle: Handle) -> HTTPStatus:
        """Take one notification; the answer is the status to give to the sender.

        204: handled now or before, or of a kind that this version does not know. 400: cannot be read. 403: not
        expected. 413: larger than ``BODY_BYTES``.

        Args:
            headers: of the request, in any case.
            body: of the request.
            handle: called with the update if it is new.

        Raises:
            Exception: what ``handle`` raised; answer 500, so that the sender comes again.
        """
        if len(body) > BODY_BYTES:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        try:
            response = _parsed(body)
        except BadAnswer:
            return HTTPStatus.BAD_REQUEST
        if response is None:
            return HTTPStatus.NO_CONTENT
        mark = mark_of(response)
        update = Update(response=response, cursor=mark.cursor, revision=mark.revision)
        expected = self._find(update.task_id, {name.lower(): value for name, value in headers.items()})
        if expected is None:
            return HTTPStatus.FORBIDDEN
        async with expected.turn:
            if not expected.knows(update, body):
                await handle(update)
                expected.remember(update, body)
        if update.state in TERMINAL_STATES:
            self._has_ended(update.task_id)
        return HTTPStatus.NO_CONTENT

    def _find(self, task_id: str, headers: Mapping[str, str]) -> _Expected | None:
        for expected in self._bound.get(task_id, ()):
            if expected.believes(headers):
                return expected
        for expected in self._unbound:
            if expected.believes(headers):
                if task_id:  # a Message may be of none
                    self._unbound.remove(expected)
                    self._bound.setdefault(task_id, []).append(expected)
                return expected
        return None

    def _has_ended(self, task_id: str) -> None:
        self._ended[task_id] = None
        self._ended.move_to_end(task_id)
        if len(self._ended) > REMEMBERED_ENDED:
            self.forget(next(iter(self._ended)))


class _Expected:
    """One webhook, and what of it was handled."""

    def __init__(self, config: TaskPushNotificationConfig, after: int) -> None:
        self.turn = asyncio.Lock()
        self._config = config
        self._revision = after
        self._handled: OrderedDict[bytes, None] = OrderedDict()

    def believes(self, headers: Mapping[str, str]) -> bool:
        """Whether these are the credentials: all that came are right, and what every sender has to give came."""
        token = headers.get(TOKEN_HEADER, "")
        right = not token or _same(token, self._config.token)
        authentication = self._config.authentication
        if authentication and authentication.credentials:
            scheme, _, credentials = headers.get("authorization", "").partition(" ")
            same = _same(credentials.strip(), authentication.credentials)
            return right and same and scheme.lower() == authentication.scheme.lower()
        # The header for the token is a custom since 1.0.1, so it is asked for only where there is nothing else.
        return right and bool(token)

    def knows(self, update: Update, body: bytes) -> bool:
        """Whether this was handled."""
        if update.revision is not None:
            return update.revision <= self._revision
        return _key(update, body) in self._handled

    def remember(self, update: Update, body: bytes) -> None:
        """This was handled."""
        if update.revision is not None:
            self._revision = update.revision
            return
        if key := _key(update, body):
            self._handled[key] = None
            if len(self._handled) > REMEMBERED_UPDATES:
                self._handled.popitem(last=False)


class ReceiverApp:
    """A receiver as an ASGI application, at whatever path it is mounted.

    Args:
        receiver: knows what is expected.
        handle: called with each new update.
    """

    def __init__(self, receiver: Receiver, handle: Handle) -> None:
        self._receiver = receiver
        self._handle = handle

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Serve one request, or the server's beginning and end."""
        if scope["type"] == "lifespan":
            while True:
                event = (await receive())["type"]
                await send({"type": f"{event}.complete"})
                if event == "lifespan.shutdown":
                    return
        assert scope["type"] == "http", "a webhook is served over HTTP"
        if scope["method"] == "POST":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            status = await self._receiver.receive(headers, await _body(receive), self._handle)
        else:
            status = HTTPStatus.METHOD_NOT_ALLOWED
        fields = [(b"allow", b"POST")] if status is HTTPStatus.METHOD_NOT_ALLOWED else []
        await send({"type": "http.response.start", "status": status.value, "headers": fields})
        await send({"type": "http.response.body", "body": b""})


async def _body(receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> bytes:
    """The body, or so much of it that it is too large."""
    body = bytearray()
    while len(body) <= BODY_BYTES:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return bytes(body)


def _parsed(body: bytes) -> StreamResponse | None:
    """The update; a whole task, as 0.3 sends it, is one too."""
    try:
        members = msgspec.json.decode(body, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise BadAnswer("A notification is not a JSON object") from error
    return read_update(body if members.keys() & _MEMBERS else encode(v0_3.update(members)))


def _key(update: Update, body: bytes) -> bytes:
    """What a repetition has in common with its original; nothing if that cannot be told."""
    if update.cursor:
        return update.cursor.encode()
    if update.artifact and update.artifact.append:
        return b""
    return blake2b(body, digest_size=16).digest()


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())
