"""Updates of a task as one sequence, over as many connections as it takes."""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque
from collections.abc import Generator
from hashlib import blake2b
from types import TracebackType
from typing import Final, Self

from msgspec import Struct

from a2a_events import limits
from a2a_events.client.answers import read, read_update
from a2a_events.client.endpoint import Endpoint
from a2a_events.client.errors import ClientError, NoAnswer, StreamInterrupted
from a2a_events.client.link import Frames
from a2a_events.client.repetition import SendKey
from a2a_events.client.replay import Mark, mark_of
from a2a_events.client.replicas import PASSING, Replicas, repeatable
from a2a_events.client.retry import wanted_seconds
from a2a_events.client.sse import Event
from a2a_events.errors import (
    A2AError,
    InvalidParamsError,
    MethodNotFoundError,
    UnavailableError,
    UnsupportedOperationError,
)
from a2a_events.model import (
    INTERRUPTED_STATES,
    TERMINAL_STATES,
    GetTaskRequest,
    Message,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
)

REMEMBERED_UPDATES: Final = 1024
"""Updates whose repetition after a reconnection is noticed; a server repeats at most the record it stopped in."""
CURSOR_CHARACTERS: Final = 1024
"""Longest id taken for a cursor: it has to fit into a header."""
STEADY_SECONDS: Final = limits.KEEP_ALIVE_SECONDS
"""A connection that lived as long as this was a good one, even if its task had nothing to say."""

_NO_SUBSCRIPTION: Final = (UnsupportedOperationError, MethodNotFoundError, InvalidParamsError)
"""How servers refuse to resume a task that has ended; 1.0 names the first, 0.3 named none."""


class Update(Struct, frozen=True, kw_only=True):
    """What the agent said, and where that leaves the reader.

    Args:
        response: the update as the protocol has it.
        cursor: everything up to here was delivered: ``subscribe(task_id, cursor)`` goes on after it. None if the server
            gives no cursors.
        revision: of the task after this update, where the server tells it (replay extension): a higher one is newer.
        resynchronised: between the update before and this one, others may be missing, because the server could not
            resume where the connection broke. If this is a Task, it replaces what was known, and holds all of it.
    """

    response: StreamResponse
    cursor: str | None = None
    revision: int | None = None
    resynchronised: bool = False

    @property
    def task_id(self) -> str:
        """The task that it is about; empty for a Message that is about none."""
        if self.response.task:
            return self.response.task.id
        update = self.response.status_update or self.response.artifact_update or self.response.message
        return update.task_id if update else ""

    @property
    def task(self) -> Task | None:
        """The whole task, if this is a snapshot of it."""
        return self.response.task

    @property
    def message(self) -> Message | None:
        """The whole answer, if the agent replied without a task."""
        return self.response.message

    @property
    def status(self) -> TaskStatus | None:
        """The new status, if this is a status update."""
        return self.response.status_update.status if self.response.status_update else None

    @property
    def artifact(self) -> TaskArtifactUpdateEvent | None:
        """The artifact or piece of one, with ``append`` and ``last_chunk``, if this is an artifact update."""
        return self.response.artifact_update

    @property
    def state(self) -> TaskState | None:
        """The task's state after this update; None if it does not say."""
        status = self.response.task.status if self.response.task else self.status
        return status.state if status else None


class Updates:
    """An async iterator over updates and a context manager: entering opens the stream, leaving always closes it.

    Guarantees:

    - Order is the server's. With a server that gives cursors no update is lost and none comes twice, whatever breaks in
      between; with any other, a gap is bridged by a Task marked ``resynchronised``, never passed over in silence.
    - When iteration ends without an error, the task has ended, or a Message was the answer, or (only where a message
      was sent) the task waits for its client.
    - Canceling a pending ``anext``, by a timeout say, loses nothing: the next one goes on.
    - A broken connection is replaced by itself: the other gateways first, with back-off, as the policy of
      :class:`~a2a_events.client.retry.Retry` has it. 502, 503, 504, 429 and a silence of ``stall_seconds`` count as
      broken, and so does an end before its time.

    Raises, on entering and while iterating:
        A2AError: the server's error; it ends the stream.
        ConnectionFailed: entering only: nobody was reached, nothing was sent.
        NoAnswer: the message was sent, and no update of it came. It was sent again only if the agent's card says that a
            message is taken once under its ``idempotency_key``.
        StreamInterrupted: all attempts to go on failed; it carries task id and cursor.
        BadAnswer: the server does not speak A2A 1.0.

    Made by :class:`~a2a_events.client.client.Client`; for one task in one program at a time.
    """

    def __init__(
        self,
        replicas: Replicas,
        *,
        message: SendMessageRequest | None = None,
        task_id: str | None = None,
        cursor: str | None = None,
        idempotency_key: str | None = "",
        history_length: int | None = None,
    ) -> None:
        self.task_id = task_id
        """The task; None until the first update of a new one."""
        self.cursor = cursor
        """Of the last update delivered: hand it to ``subscribe`` to go on after it, in another process too."""
        self._key = SendKey(idempotency_key)
        self.active_extensions: frozenset[str] = frozenset()
        """URIs of the extensions that the agent activated for this stream; known when it is entered."""
        self._replicas = replicas
        self._message = message
        self._history_length = history_length
        # Someone who goes on with a task expects it to be there; others learn soon that nobody is.
        self._attempts = replicas.stream_attempts() if cursor else replicas.request_attempts()
        self._connection: tuple[Endpoint, Frames] | None = None
        self._waiting: deque[Event | Update] = deque()
        self._memory = _Memory()
        self._state: TaskState | None = None
        self._server_wants_seconds = 0.0
        self._unsettled: Exception | None = None  # how the message's connection broke before an update of it came
        self._entered = False
        self._opened = False
        self._ended = False
        self._accepted = message is None  # the server has the message, if there is one
        self._resumed = cursor is not None  # the caller has seen a part of the task
        # Of the current connection:
        self._from_cursor = False
        self._first = True  # no update of it was taken yet

    @property
    def idempotency_key(self) -> str:
        """Under which the message was sent, once this is entered; empty for a subscription."""
        return self._key.text

    async def __aenter__(self) -> Self:
        assert not self._entered, "a stream is entered once"
        self._entered = True
        if self._message is None:
            await self._subscribe()
        else:
            await self._send(self._message)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Updates:
        return self

    async def __anext__(self) -> Update:
        assert self._entered, "a stream is read inside `async with`"
        while True:
            try:
                if update := await self._next():
                    return update
                if self._ended:
                    break
                await self._read()
            except (A2AError, ClientError):
                self._waiting.clear()
                self._ended = True
                await self._close()
                raise
        await self._close(drain=True)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close the connection; the task goes on. Closing twice is allowed."""
        drain, self._ended = self._ended, True
        self._waiting.clear()
        await self._close(drain=drain)

    async def _next(self) -> Update | None:
        """The next update among what has arrived, None if there is none."""
        try:
            while self._waiting:
                if update := self._take(self._waiting.popleft()):
                    return update
        except UnavailableError as error:  # a gateway says good-bye in mid-stream
            await self._lost(error)
        except _NO_SUBSCRIPTION:  # from a server that opens its streams before it looks
            self._waiting.clear()
            if not (self._first and self._resumed) or not await self._settle():
                raise
            await self._close()
            return self._take(self._waiting.popleft())
        return None

    # --- what came ---------------------------------------------------------------------------------------------------

    def _take(self, item: Event | Update) -> Update | None:
        """One waiting item as an update; None if it is none, or is known already."""
        if isinstance(item, Update):
            return self._delivered(item)
        assert self._connection is not None
        _, frames = self._connection
        raw = frames.update(item) if item.data else b""
        response = read_update(raw) if raw else None
        mark = mark_of(response) if response else Mark()
        place = item.id if item.id is not None else mark.cursor
        cursor = _cursor_at(place, self.cursor)
        if response is None:
            self.cursor = cursor  # a mere position, or a kind of update from the future
            return None
        first, self._first = self._first, False
        continues = self._from_cursor and place is not None and response.task is None
        resynchronised = first and self._resumed and not continues
        known = self._memory.knows(place, raw, resynchronised=resynchronised)
        self.cursor = cursor
        if known:
            return None
        return self._delivered(
            Update(response=response, cursor=cursor, revision=mark.revision, resynchronised=resynchronised)
        )

    def _delivered(self, update: Update) -> Update:
        response = update.response
        if response.task is not None or self.task_id is None:
            self.task_id = update.task_id or None
        self._state = update.state or self._state
        self._accepted = self._resumed = True
        self._attempts.succeeded()
        if response.message is not None or self._state in TERMINAL_STATES:
            self._ended = True
            self._waiting.clear()
        return update

    # --- the connections ---------------------------------------------------------------------------------------------

    async def _send(self, message: SendMessageRequest) -> None:
        with self._explained():
            self._connection = await self._replicas.open(
                message,
                self._attempts,
                key=self._key,
                unsettled=self._unsettled,
                patience_seconds=None,
                floor_seconds=self._server_wants_seconds,
            )
        self._server_wants_seconds = 0.0
        self._has_opened()

    async def _subscribe(self) -> None:
        request = SubscribeToTaskRequest(id=self.task_id or "")
        headers = {"Last-Event-ID": self.cursor} if self.cursor else {}
        self._first, self._from_cursor = True, self.cursor is not None
        self._memory.reconnected()
        try:
            with self._explained():
                self._connection = await self._replicas.open(
                    request,
                    self._attempts,
                    headers=headers,
                    patience_seconds=self._replicas.patience_seconds,
                    floor_seconds=self._server_wants_seconds,
                )
        except _NO_SUBSCRIPTION as error:
            # The task has ended meanwhile, or this server has no subscriptions.
            expected = self._opened or (self._resumed and isinstance(error, UnsupportedOperationError))
            if not expected or not await self._settle():
                raise
        else:
            self._server_wants_seconds = 0.0
            self._has_opened()

    def _has_opened(self) -> None:
        if self._connection is not None:
            self.active_extensions = self._connection[1].extensions
        if not self._opened:
            self._opened = True
            self._attempts = self._replicas.stream_attempts()

    async def _read(self) -> None:
        """Wait for more, on a new connection if there is none."""
        if self._connection is None:
            if not self._accepted and self._message is not None:
                await self._send(self._message)
            elif not self._ends_here():
                await self._subscribe()
            return
        _, frames = self._connection
        try:
            events = await frames.read()
        except NoAnswer as broken:
            silent = self._first and self._resumed and frames.lived_seconds == 0
            await self._lost(broken)
            if silent and not self._ended:  # perhaps a server that breaks off what it should refuse
                with contextlib.suppress(StreamInterrupted):
                    await self._settle()
        except UnavailableError as error:  # gRPC's good-bye in mid-stream is a status
            await self._lost(error)
        except BaseException:
            await self._close()  # canceled: what is half read is lost, and asked for again
            raise
        else:
            if events is not None:
                self._waiting.extend(events)
                return
            silent = self._first
            await self._lost(NoAnswer("The stream ended before its task did", retry_safe=True))
            if silent and self._accepted and not self._ended:
                await self._settle()  # nothing follows the cursor: perhaps because the task has ended

    async def _lost(self, error: Exception) -> None:
        """The connection is of no more use."""
        assert self._connection is not None
        endpoint, frames = self._connection
        if frames.lived_seconds >= STEADY_SECONDS:
            self._attempts.succeeded()
        self._server_wants_seconds = frames.retry_seconds
        self._waiting.clear()
        await self._close()
        self._replicas.failed(endpoint, error)
        if not self._accepted:
            self._unsettled = NoAnswer(
                "The message was sent and the connection broke before the first update: it may have been taken",
                idempotency_key=self.idempotency_key,
            )
            if not repeatable(self._key.repetition, endpoint):
                raise self._unsettled from error
            self._attempts.failed(self._unsettled)
            return
        if self._ends_here():
            return
        with self._explained():
            self._attempts.failed(error)

    def _ends_here(self) -> bool:
        """Whether a lost connection is the end."""
        if self._message is not None and self._state in INTERRUPTED_STATES:
            self._ended = True
        return self._ended

    async def _settle(self) -> bool:
        """Ask for the task; if it has ended, that is the last update."""
        request = GetTaskRequest(id=self.task_id or "", history_length=self._history_length)
        with self._explained():
            raw = await self._replicas.ask(request, patience_seconds=self._replicas.patience_seconds)
        task = read(raw, Task)
        if task.status.state not in TERMINAL_STATES:
            return False
        response = StreamResponse(task=task)
        revision = mark_of(response).revision
        self._waiting.append(Update(response=response, cursor=self.cursor, revision=revision, resynchronised=True))
        return True

    async def _close(self, *, drain: bool = False) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection[1].aclose(drain=drain)

    @contextlib.contextmanager
    def _explained(self) -> Generator[None]:
        """Failures of the way to the server, with what the caller needs to go on."""
        try:
            yield
        except PASSING as error:
            if isinstance(error, NoAnswer):
                error.idempotency_key = self.idempotency_key
            if not self._opened or not self._accepted or self.task_id is None:
                raise
            raise StreamInterrupted(
                f"The stream of task {self.task_id} was lost: {error.message}",
                task_id=self.task_id,
                cursor=self.cursor,
                retry_after_seconds=wanted_seconds(error),
            ) from error


class _Memory:
    """The updates that earlier connections delivered.

    A server that resumes may repeat what stands around the cursor. Ids alone do not show a repetition: some servers
    count them from the beginning for each connection, so the content has to be the same as well. Within a connection
    nothing is compared: there the server's word stands.
    """

    def __init__(self) -> None:
        self._delivered: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self._connection = 0
        self._last = b""

    def reconnected(self) -> None:
        """What comes now may repeat what came before."""
        self._connection += 1

    def knows(self, update_id: str | None, raw: bytes, *, resynchronised: bool) -> bool:
        """Whether this update was delivered before; if not, it is now."""
        digest = blake2b(raw, digest_size=16).digest()
        if resynchronised:
            self._delivered.clear()  # the ids that follow are the server's new count
            known = digest == self._last
        else:
            connection, before = self._delivered.get(update_id or "", (self._connection, b""))
            known = connection < self._connection and before == digest
        if not known:
            self._last = digest
            if update_id:
                self._delivered[update_id] = (self._connection, digest)
                if len(self._delivered) > REMEMBERED_UPDATES:
                    self._delivered.popitem(last=False)
        return known


def usable_cursor(text: str) -> bool:
    """Whether a server's id can travel back in a header."""
    return 0 < len(text) <= CURSOR_CHARACTERS and text.isprintable() and text.strip() == text


def _cursor_at(place: str | None, before: str | None) -> str | None:
    if place is None:
        return before
    return place if usable_cursor(place) else None
