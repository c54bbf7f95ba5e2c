"""The client: an agent, behind any number of gateways, as the operations of A2A."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import cache
from types import TracebackType
from typing import Any, Final, Literal, Self

import httpx
import msgspec

from a2a_events import limits
from a2a_events.client.answers import read, read_with
from a2a_events.client.card_keys import CardKeys
from a2a_events.client.credentials import Credentials
from a2a_events.client.endpoint import BindingName, Endpoint, Wishes, read_card, version_of
from a2a_events.client.errors import BadAnswer, NoAnswer
from a2a_events.client.http_link import Http
from a2a_events.client.push_configs import PushConfigs
from a2a_events.client.repetition import SendKey, message_id_for
from a2a_events.client.replicas import Replicas
from a2a_events.client.retry import Retry
from a2a_events.client.stream import Updates, usable_cursor
from a2a_events.errors import TaskNotCancelableError
from a2a_events.model import (
    AgentCard,
    AgentInterface,
    CancelTaskRequest,
    GetExtendedAgentCardRequest,
    GetTaskRequest,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    Task,
    TaskPushNotificationConfig,
    TaskState,
)
from a2a_events.model.requests import SendMessageResponse

PATIENCE_SECONDS: Final = 30.0
"""For what a server answers at once: a card, a task, the beginning of a subscription."""
STALL_SECONDS: Final = 3 * limits.KEEP_ALIVE_SECONDS
"""Silence on a stream after which it counts as broken: two keep-alives may be lost."""

_EMPTY_PAGE: Final[dict[str, Any]] = {"tasks": [], "nextPageToken": "", "pageSize": 0, "totalSize": 0}
"""ListTasksResponse as a server may abbreviate it that leaves out what is empty."""


class Client:
    """An agent that speaks A2A 1.0 over JSON-RPC, HTTP+JSON or gRPC, or A2A 0.3 over the first two.

    The agent's card decides: its first interface of 1.0 that this client speaks is used, and 0.3 only where the card
    offers nothing newer. A server that refuses the version its card names is an error, never a reason to try another.

    Safe for any number of concurrent calls. Its errors are those of the protocol (``a2a_events.errors.A2AError``) and
    those of the way there (``a2a_events.client.ClientError``); each says whether repeating is safe. A call that was
    certainly never sent is repeated, at the next gateway, by the client itself; so is one that changes nothing, after a
    broken connection, 429, 502, 503 and 504, and a message with an idempotency key, where the agent's card says that
    it is taken once (``urn:a2a-events:idempotent-send:v1``).

    Headers and credentials go wherever the agent's card points to: give credentials only with bases that you trust.

    Args:
        bases: base URLs of the agent, its card under ``/.well-known/agent-card.json`` of each, or URLs of the card
            itself, which end in ``.json``; or interfaces, for which no card is fetched. Several are gateways of the
            same agent, in the order in which to ask them: one that fails goes last.
        http: connections to use; closed by whoever made them. Its time-outs are not used.
        binding: the only binding to use, or several in order of preference; otherwise the first that card and client
            share. GRPC needs the extra ``grpc``.
        headers: sent with every request; over gRPC as metadata.
        credentials: shown with every request: ``bearer(…)`` or ``api_key(…)``. Tokens can be renewed while the client
            lives.
        extensions: URIs of extensions to ask for with every request. With ``REPLAY_EXTENSION`` updates carry their
            revision; over gRPC, where cursors have no other place, it is asked for by itself if the card declares it.
        make_channel: makes the ``grpc.aio`` channel to a ``host:port``; otherwise TLS with the roots that gRPC brings,
            and none to a loopback address.
        retry: how often and how soon to try again.
        patience_seconds: for what a server answers at once; None: no limit. A message's answer takes as long as the
            agent does: bound it with ``asyncio.timeout``.
        stall_seconds: silence, keep-alives included, after which a stream counts as broken; None: never.
        card_keys: whose signatures on agent cards count; None: cards are believed as they come. A card that is checked
            is asked for without credentials; with them after a 401, over HTTPS or on this machine only. An interface
            that is given needs no card, and only its extended card is checked.
    """

    def __init__(
        self,
        bases: str | AgentInterface | Sequence[str | AgentInterface],
        *,
        http: httpx.AsyncClient | None = None,
        binding: BindingName | Sequence[BindingName] | None = None,
        headers: Mapping[str, str] | None = None,
        credentials: Credentials | None = None,
        extensions: Sequence[str] = (),
        make_channel: Callable[[str], Any] | None = None,
        retry: Retry | None = None,
        patience_seconds: float | None = PATIENCE_SECONDS,
        stall_seconds: float | None = STALL_SECONDS,
        card_keys: CardKeys | None = None,
    ) -> None:
        addresses = [bases] if isinstance(bases, str | AgentInterface) else list(bases)
        for address in addresses:
            _check(address)
        if not addresses:
            raise ValueError("a client needs at least one base URL")
        # A stream occupies its connection: their number is the caller's affair.
        self._http = http or httpx.AsyncClient(verify=_authorities(), limits=httpx.Limits(max_connections=None))
        self._owned = http is None
        wishes = Wishes(
            bindings=[binding] if isinstance(binding, str) else binding or (),
            extensions=extensions,
            make_channel=make_channel,
            card_keys=card_keys,
        )
        self._card_keys = card_keys
        self._links = http_links = Http(self._http, headers or {}, stall_seconds, credentials)
        endpoints = [Endpoint(http_links, address, wishes, patience_seconds) for address in addresses]
        self._replicas = Replicas(endpoints, retry or Retry(), patience_seconds)
        self._patience_seconds = patience_seconds
        self._extended: tuple[AgentCard, AgentCard] | None = None
        self.push_configs = PushConfigs(self._replicas)
        """Webhooks of tasks."""

    @classmethod
    def at(
        cls,
        urls: str | Sequence[str],
        binding: BindingName,
        *,
        version: Literal["1.0", "0.3"] = "1.0",
        tenant: str = "",
        **options: Any,
    ) -> Client:
        """A client of an interface that is known: no card is needed.

        Args:
            urls: of the interface, one for each gateway; ``host:port`` for GRPC.
            binding: what it speaks.
            version: of the protocol.
            tenant: echoed in every request.
            options: see :class:`Client`.
        """
        interfaces = [
            AgentInterface(url=url, protocol_binding=binding, protocol_version=version, tenant=tenant)
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
        await self._replicas.aclose()
        if self._owned:
            await self._http.aclose()

    @property
    def active_extensions(self) -> frozenset[str]:
        """URIs of the extensions that the agent activated for its latest answer; ``Updates`` has those of a stream."""
        return self._replicas.extensions

    async def card(self) -> AgentCard:
        """The agent's card. Kept as long as its ``Cache-Control`` allows, then revalidated; safe to repeat.

        After :meth:`extended_card` it is the extended one, until the public one changes.

        Raises:
            A2AError: the server refused it.
            ConnectionFailed, NoAnswer: no gateway gave it.
            BadAnswer: there is none, or it cannot be read.
            CardNotTrusted: it is not signed as ``card_keys`` wants it.
        """
        public = await self._replicas.card()
        if self._extended and self._extended[0] == public:
            return self._extended[1]
        return public

    async def extended_card(self) -> AgentCard:
        """The card as this caller may see it; from then on :meth:`card` gives it too. Safe to repeat.

        Raises:
            UnsupportedOperationError: the agent has none.
            ExtendedAgentCardNotConfiguredError: it says that it has one, and has none.
            A2AError: another error of the server, ``UnauthenticatedError`` for example.
            ConnectionFailed, NoAnswer: no gateway answered.
            BadAnswer: the answer is no card.
            CardNotTrusted: it is not signed as ``card_keys`` wants it.
        """
        public = await self._replicas.card() if self._replicas.has_card else None
        raw = await self._replicas.ask(GetExtendedAgentCardRequest(), patience_seconds=self._patience_seconds)
        if self._card_keys is not None:
            raw = await self._card_keys.verified(raw, "GetExtendedAgentCard", self._links.document)
        extended = read_card(raw)
        if public is not None:
            self._extended = (public, extended)
        return extended

    async def send(
        self,
        message: Message | str,
        *,
        context_id: str = "",
        task_id: str = "",
        history_length: int | None = None,
        return_immediately: bool = False,
        accepted_output_modes: Sequence[str] = (),
        push: TaskPushNotificationConfig | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Task | Message:
        """Send a message and wait for what becomes of it: a task that has ended or waits for input, or a message.

        A server may stop waiting when the credentials end; the task then goes on, and can be looked at with others.

        Args:
            message: or its text.
            context_id: the conversation it belongs to.
            task_id: the task it continues.
            history_length: most messages of history to get; None: all.
            return_immediately: do not wait; the task is still under way.
            accepted_output_modes: media types that the caller can use.
            push: a webhook for updates of the task, from its beginning.
            metadata: of the request.
            idempotency_key: names this very message; made up if not given, and none is sent if empty. The client relies
                on it where the agent's card declares that. 1 to 255 visible ASCII characters.

        Raises:
            InvalidParamsError: among others, the key came with another message before.
            A2AError: the server's error. After an ``UnavailableError`` whose sentence leaves it open, the message may
                have been taken.
            ConnectionFailed: no gateway was reached: safe to repeat.
            NoAnswer: the message may have been taken. Repeat it with ``NoAnswer.idempotency_key`` if the server honours
                that, or look first.
            BadAnswer: the server does not speak A2A 1.0; the message may have been taken.
        """
        request = _sending(
            _message(message, context_id, task_id, idempotency_key),
            SendMessageConfiguration(
                accepted_output_modes=tuple(accepted_output_modes),
                task_push_notification_config=push,
                history_length=history_length,
                return_immediately=return_immediately,
            ),
            metadata,
        )
        key = SendKey(idempotency_key)
        try:
            raw = await self._replicas.ask(
                request,
                key=key,
                patience_seconds=self._patience_seconds if return_immediately else None,
            )
        except NoAnswer as error:
            error.idempotency_key = key.text
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
        push: TaskPushNotificationConfig | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Updates:
        """Send a message and follow what becomes of it: ``async with client.stream(…) as updates: async for …``.

        The message is sent on entering. Iteration ends when the task has ended, waits for its client, or a Message was
        the answer. Arguments are those of :meth:`send`; errors and guarantees those of :class:`Updates`.
        """
        request = _sending(
            _message(message, context_id, task_id, idempotency_key),
            SendMessageConfiguration(
                accepted_output_modes=tuple(accepted_output_modes),
                task_push_notification_config=push,
                history_length=history_length,
            ),
            metadata,
        )
        return Updates(
            self._replicas,
            message=request,
            task_id=task_id or (message.task_id if isinstance(message, Message) else "") or None,
            idempotency_key=idempotency_key,
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
        return read(await self._replicas.ask(request, patience_seconds=self._patience_seconds), Task)

    async def list_tasks(
        self,
        *,
        context_id: str = "",
        state: TaskState | None = None,
        since: str = "",
        page_size: int | None = None,
        page_token: str = "",
        history_length: int | None = None,
        include_artifacts: bool = False,
    ) -> ListTasksResponse:
        """One page of the tasks that this caller may see, the latest status first. Safe to repeat.

        Args:
            context_id: only tasks of this conversation.
            state: only tasks in it.
            since: only tasks whose status is as new as this, RFC 3339 in UTC: ``2026-05-28T12:00:00Z``.
            page_size: most tasks to get, 1 to 100; None: the server's choice.
            page_token: ``next_page_token`` of the page before.
            history_length: most messages of each task's history to get; None: the server's choice.
            include_artifacts: whether to get artifacts as well.

        Raises:
            InvalidParamsError: a filter is out of range, or the token is not of this query.
            UnsupportedOperationError: the agent speaks 0.3 only, which has no list.
            A2AError: another error of the server.
            ConnectionFailed, NoAnswer: no gateway answered.
            BadAnswer: the answer is no page.
        """
        request = ListTasksRequest(
            context_id=context_id,
            status=state.value if state else "",
            page_size=page_size,
            page_token=page_token,
            history_length=history_length,
            status_timestamp_after=since,
            include_artifacts=include_artifacts,
        )
        raw = await self._replicas.ask(request, patience_seconds=self._patience_seconds)
        return read_with(_EMPTY_PAGE, raw, ListTasksResponse)

    async def tasks(
        self,
        *,
        context_id: str = "",
        state: TaskState | None = None,
        since: str = "",
        page_size: int | None = None,
        history_length: int | None = None,
        include_artifacts: bool = False,
    ) -> AsyncGenerator[Task]:
        """All tasks that this caller may see: ``async for task in client.tasks(…)``. A page is asked for when needed.

        A task whose status changes meanwhile moves to the front, and may come twice or not at all. Arguments and errors
        are those of :meth:`list_tasks`; a failure loses only the rest.
        """
        token, seen = "", {""}
        while True:
            page = await self.list_tasks(
                context_id=context_id,
                state=state,
                since=since,
                page_size=page_size,
                page_token=token,
                history_length=history_length,
                include_artifacts=include_artifacts,
            )
            for task in page.tasks:
                yield task
            token = page.next_page_token
            if not token:
                return
            if token in seen:
                raise BadAnswer("The server's pages go round in circles")
            seen.add(token)

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
        attempts = self._replicas.request_attempts()
        try:
            raw = await self._replicas.ask(request, attempts=attempts, patience_seconds=self._patience_seconds)
        except TaskNotCancelableError:
            if attempts.failures == 0:
                raise
            task = await self.get(task_id)
            if task.status.state is not TaskState.CANCELED:
                raise
            return task
        return read(raw, Task)


def _sending(
    message: Message, configuration: SendMessageConfiguration, metadata: Mapping[str, Any] | None
) -> SendMessageRequest:
    return SendMessageRequest(
        message=message,
        configuration=None if configuration == SendMessageConfiguration() else configuration,
        metadata=dict(metadata) if metadata else None,
    )


def _message(message: Message | str, context_id: str, task_id: str, idempotency_key: str | None) -> Message:
    if isinstance(message, str):
        message = Message(message_id=message_id_for(idempotency_key), role=Role.USER, parts=(Part(text=message),))
    return msgspec.structs.replace(
        message, context_id=context_id or message.context_id, task_id=task_id or message.task_id
    )


def _check(address: str | AgentInterface) -> None:
    if isinstance(address, AgentInterface):
        if version_of(address) is None:
            raise ValueError(f"{address.protocol_binding} {address.protocol_version} is not spoken by this client")
        if address.protocol_binding == "GRPC":
            return
    url = address if isinstance(address, str) else address.url
    parsed = httpx.URL(url)
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ValueError(f"{url!r} is not an http or https URL")


@cache
def _authorities() -> ssl.SSLContext:
    """Whom to trust. Read once for all clients: it takes 50 ms, in which nothing else would run."""
    return httpx.create_ssl_context()
