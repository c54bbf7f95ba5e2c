"""The client: an agent, behind any number of gateways, as five operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import httpx
import msgspec

from a2a_events import limits
from a2a_events.client.answers import read
from a2a_events.client.endpoint import BindingName, Endpoint
from a2a_events.client.errors import BadAnswer, NoAnswer
from a2a_events.client.replicas import Make, Replicas
from a2a_events.client.retry import Retry
from a2a_events.client.stream import Updates, usable_cursor
from a2a_events.client.transport import Binding, Call, Http
from a2a_events.errors import TaskNotCancelableError
from a2a_events.model import (
    AgentCard,
    AgentInterface,
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    Task,
    TaskState,
)
from a2a_events.model.requests import SendMessageResponse

PATIENCE_SECONDS: Final = 30.0
"""For what a server answers at once: a card, a task, the beginning of a subscription."""
STALL_SECONDS: Final = 3 * limits.KEEP_ALIVE_SECONDS
"""Silence on a stream after which it counts as broken: two keep-alives may be lost."""


class Client:
    """An agent that speaks A2A 1.0, over JSON-RPC or HTTP+JSON.

    Safe for any number of concurrent calls. Its errors are those of the protocol (``a2a_events.errors.A2AError``) and
    those of the way there (``a2a_events.client.ClientError``); each says whether repeating is safe. A call that was
    certainly never sent is repeated, at the next gateway, by the client itself; so is one that changes nothing, after a
    broken connection, 429, 502, 503 and 504.

    Headers go wherever the agent's card points to: give credentials only with bases that you trust.

    Args:
        bases: base URLs of the agent, its card under ``/.well-known/agent-card.json`` of each; or interfaces, for which
            no card is fetched. Several are gateways of the same agent, in the order in which to ask them: one that
            fails goes last.
        http: connections to use; closed by whoever made them. Its time-outs are not used.
        binding: the only binding to use; otherwise the first that card and client share.
        headers: sent with every request, ``Authorization`` for example.
        retry: how often and how soon to try again.
        patience_seconds: for what a server answers at once; None: no limit. A message's answer takes as long as the
            agent does: bound it with ``asyncio.timeout``.
        stall_seconds: silence, keep-alives included, after which a stream counts as broken; None: never.
    """

    def __init__(
        self,
        bases: str | AgentInterface | Sequence[str | AgentInterface],
        *,
        http: httpx.AsyncClient | None = None,
        binding: BindingName | None = None,
        headers: Mapping[str, str] | None = None,
        retry: Retry | None = None,
        patience_seconds: float | None = PATIENCE_SECONDS,
        stall_seconds: float | None = STALL_SECONDS,
    ) -> None:
        addresses = [bases] if isinstance(bases, str | AgentInterface) else list(bases)
        for address in addresses:
            _check_url(address if isinstance(address, str) else address.url)
        if not addresses:
            raise ValueError("a client needs at least one base URL")
        # A stream occupies its connection: their number is the caller's affair.
        self._http = http or httpx.AsyncClient(limits=httpx.Limits(max_connections=None))
        self._owned = http is None
        transport = Http(self._http, headers or {}, stall_seconds)
        endpoints = [Endpoint(transport, address, binding, patience_seconds) for address in addresses]
        self._replicas = Replicas(transport, endpoints, retry or Retry(), patience_seconds)
        self._patience_seconds = patience_seconds

    @classmethod
    def at(cls, urls: str | Sequence[str], binding: BindingName, *, tenant: str = "", **options: Any) -> Client:
        """A client of an interface that is known: no card is needed.

        Args:
            urls: of the interface, one for each gateway.
            binding: what it speaks.
            tenant: echoed in every request.
            options: see :class:`Client`.
        """
        interfaces = [
            AgentInterface(url=url, protocol_binding=binding, protocol_version="1.0", tenant=tenant)
            for url in ([urls] if isinstance(urls, str) else urls)
        ]
        return cls(interfaces, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, unless they were given. Open streams break."""
        if self._owned:
            await self._http.aclose()

    async def card(self) -> AgentCard:
        """The agent's card. Kept as long as its ``Cache-Control`` allows, then revalidated; safe to repeat.

        Raises:
            A2AError: the server refused it.
            ConnectionFailed, NoAnswer: no gateway gave it.
            BadAnswer: there is none, or it cannot be read.
        """
        return await self._replicas.card()

    async def send(
        self,
        message: Message | str,
        *,
        context_id: str = "",
        task_id: str = "",
        history_length: int | None = None,
        return_immediately: bool = False,
        accepted_output_modes: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Task | Message:
        """Send a message and wait for what becomes of it: a task that has ended or waits for input, or a message.

        Args:
            message: or its text.
            context_id: the conversation it belongs to.
            task_id: the task it continues.
            history_length: most messages of history to get; None: all.
            return_immediately: do not wait; the task is still under way.
            accepted_output_modes: media types that the caller can use.
            metadata: of the request.
            idempotency_key: names this very message; made up if not given, and none is sent if empty. Not every server
                knows it, so the client itself never relies on it.

        Raises:
            A2AError: the server's error. After an ``UnavailableError`` whose sentence leaves it open, the message may
                have been taken.
            ConnectionFailed: no gateway was reached: safe to repeat.
            NoAnswer: the message may have been taken. Repeat it with ``NoAnswer.idempotency_key`` if the server honours
                that, or look first.
            BadAnswer: the server does not speak A2A 1.0; the message may have been taken.
        """
        make = _sending(
            _message(message, context_id, task_id),
            SendMessageConfiguration(
                accepted_output_modes=tuple(accepted_output_modes),
                history_length=history_length,
                return_immediately=return_immediately,
            ),
            metadata,
            streaming=False,
        )
        key = _new_id() if idempotency_key is None else idempotency_key
        try:
            raw = await self._replicas.ask(
                make,
                repeatable=False,
                headers={"Idempotency-Key": key} if key else None,
                patience_seconds=self._patience_seconds if return_immediately else None,
            )
        except NoAnswer as error:
            error.idempotency_key = key
            raise
        reply = read(raw, SendMessageResponse)
        answer = reply.task or reply.message
        if answer is None:
            raise BadAnswer("The server answered a message with neither a task nor a message")
        return answer

    def stream(
        self,
        message: Message | str,
        *,
        context_id: str = "",
        task_id: str = "",
        history_length: int | None = None,
        accepted_output_modes: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Updates:
        """Send a message and follow what becomes of it: ``async with client.stream(…) as updates: async for …``.

        The message is sent on entering. Iteration ends when the task has ended, waits for its client, or a Message was
        the answer. Arguments are those of :meth:`send`; errors and guarantees those of :class:`Updates`.
        """
        make = _sending(
            _message(message, context_id, task_id),
            SendMessageConfiguration(accepted_output_modes=tuple(accepted_output_modes), history_length=history_length),
            metadata,
            streaming=True,
        )
        return Updates(
            self._replicas,
            message=make,
            task_id=task_id or (message.task_id if isinstance(message, Message) else "") or None,
            idempotency_key=_new_id() if idempotency_key is None else idempotency_key,
            history_length=history_length,
        )

    def subscribe(self, task_id: str, cursor: str | None = None) -> Updates:
        """Follow a task until it has ended: ``async with client.subscribe(…) as updates: async for …``.

        The subscription stands when the block is entered. Without a cursor the first update is the Task, and a task
        that has ended is an ``UnsupportedOperationError``: get it. With a cursor the updates strictly after it come,
        also of a task that has ended; a server that cannot resume gives a Task marked ``resynchronised``. Errors and
        guarantees are those of :class:`Updates`.

        Args:
            task_id: the task.
            cursor: of the last update seen, from ``Update.cursor``, ``Updates.cursor`` or ``StreamInterrupted.cursor``.

        Raises:
            ValueError: no server can have given this cursor.
        """
        if cursor is not None and not usable_cursor(cursor):
            raise ValueError("this is not a cursor that a server gave")
        return Updates(self._replicas, task_id=task_id, cursor=cursor)

    async def get(self, task_id: str, *, history_length: int | None = None) -> Task:
        """The task as it is. Safe to repeat.

        Raises:
            TaskNotFoundError: no such task for this caller.
            A2AError: another error of the server.
            ConnectionFailed, NoAnswer: no gateway answered.
            BadAnswer: the answer is no task.
        """
        request = GetTaskRequest(id=task_id, history_length=history_length)
        raw = await self._replicas.ask(
            lambda binding, at: binding.get(at, request), repeatable=True, patience_seconds=self._patience_seconds
        )
        return read(raw, Task)

    async def cancel(self, task_id: str, *, metadata: Mapping[str, Any] | None = None) -> Task:
        """Ask for the end of a task; the answer says how far that has come. Safe to repeat, and repeated.

        Raises:
            TaskNotCancelableError: it had ended before. A repetition that finds its own first try done is no error.
            TaskNotFoundError: no such task for this caller.
            A2AError: another error of the server.
            ConnectionFailed, NoAnswer: no gateway answered; the task may be canceled.
            BadAnswer: the answer is no task.
        """
        request = CancelTaskRequest(id=task_id, metadata=dict(metadata) if metadata else None)
        called: list[str] = []

        def make(binding: Binding, at: AgentInterface) -> Call:
            called.append(at.url)
            return binding.cancel(at, request)

        try:
            raw = await self._replicas.ask(make, repeatable=True, patience_seconds=self._patience_seconds)
        except TaskNotCancelableError:
            if len(called) == 1:
                raise
            task = await self.get(task_id)
            if task.status.state is not TaskState.CANCELED:
                raise
            return task
        return read(raw, Task)


def _sending(
    message: Message, configuration: SendMessageConfiguration, metadata: Mapping[str, Any] | None, *, streaming: bool
) -> Make:
    request = SendMessageRequest(
        message=message,
        configuration=None if configuration == SendMessageConfiguration() else configuration,
        metadata=dict(metadata) if metadata else None,
    )
    return lambda binding, at: binding.send(at, request, streaming=streaming)


def _message(message: Message | str, context_id: str, task_id: str) -> Message:
    if isinstance(message, str):
        message = Message(message_id=_new_id(), role=Role.USER, parts=(Part(text=message),))
    return msgspec.structs.replace(
        message, context_id=context_id or message.context_id, task_id=task_id or message.task_id
    )


def _check_url(url: str) -> None:
    parsed = httpx.URL(url)
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ValueError(f"{url!r} is not an http or https URL")


def _new_id() -> str:
    return str(uuid4())
