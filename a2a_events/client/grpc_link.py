"""Interfaces reached over gRPC (specification section 10), with the official generated types of a2a-sdk.

Imported only when a gRPC interface is chosen; needs the extra ``grpc``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeAlias, TypeVar

import grpc
import grpc.aio
import msgspec
from a2a.types import a2a_pb2, a2a_pb2_grpc
from google.protobuf import any_pb2, json_format
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no types

from a2a_events.client.answers import Answer, error_of
from a2a_events.client.credentials import Credentials
from a2a_events.client.errors import BadAnswer, ConnectionFailed, NoAnswer
from a2a_events.client.http_link import ANSWER_BYTES, CONNECT_SECONDS, named
from a2a_events.client.link import Frames, Reply
from a2a_events.client.operations import Request, name_of
from a2a_events.client.sse import Event
from a2a_events.errors import A2AError, InvalidParamsError, UnauthenticatedError
from a2a_events.model import AgentInterface, encode

T = TypeVar("T")

MakeChannel: TypeAlias = Callable[[str], grpc.aio.Channel]
"""Makes the channel to ``host:port``."""

PING_SECONDS: Final = 300.0
"""Silence after which the peer is pinged. gRPC servers hang up on clients that ping more often, unless told not to."""
REFUSAL_SECONDS: Final = 0.1
"""What a server that has sent headers gets to send a refusal after them; then a quiet stream counts as accepted."""

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", ANSWER_BYTES),
    ("grpc.keepalive_time_ms", int(PING_SECONDS * 1000)),
    ("grpc.use_local_subchannel_pool", 1),  # or a new channel would inherit the failures of the one before
)
_PLAIN: Final = frozenset({"http", "grpc"})
"""Schemes that say: no TLS."""
_DETAILS: Final = "grpc-status-details-bin"
_EXTENSIONS: Final = "a2a-extensions"
_HTTP: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""What the status would be over HTTP (google.rpc.Code); the rest is 500."""
_LOST: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})
"""What gRPC itself reports when a connection breaks, or an answer takes too long."""
_REQUESTS: Final[dict[str, type[Message]]] = {
    "SendMessage": a2a_pb2.SendMessageRequest,
    "SendStreamingMessage": a2a_pb2.SendMessageRequest,
    "GetTask": a2a_pb2.GetTaskRequest,
    "ListTasks": a2a_pb2.ListTasksRequest,
    "CancelTask": a2a_pb2.CancelTaskRequest,
    "SubscribeToTask": a2a_pb2.SubscribeToTaskRequest,
    "CreateTaskPushNotificationConfig": a2a_pb2.TaskPushNotificationConfig,
    "GetTaskPushNotificationConfig": a2a_pb2.GetTaskPushNotificationConfigRequest,
    "ListTaskPushNotificationConfigs": a2a_pb2.ListTaskPushNotificationConfigsRequest,
    "DeleteTaskPushNotificationConfig": a2a_pb2.DeleteTaskPushNotificationConfigRequest,
    "GetExtendedAgentCard": a2a_pb2.GetExtendedAgentCardRequest,
}


class GrpcLink:
    """An interface reached over gRPC. Its one channel is opened by the first call.

    Args:
        at: the interface; its URL is ``host:port``.
        headers: sent with every call, as metadata.
        extensions: to ask for.
        make_channel: makes the channel; None: TLS with the roots that gRPC brings, none to a loopback address.
        credentials: shown with every call.
    """

    def __init__(
        self,
        at: AgentInterface,
        headers: Mapping[str, str],
        extensions: Sequence[str],
        make_channel: MakeChannel | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self._at = at
        self._credentials = credentials
        self._headers = {**headers, "A2A-Version": "1.0"}
        if extensions:
            self._headers[_EXTENSIONS] = ",".join(extensions)
        self._make_channel = make_channel
        self._opened: grpc.aio.Channel | None = None

    async def ask(self, request: Request, headers: Mapping[str, str], patience_seconds: float | None) -> Reply:
        """See :class:`~a2a_events.client.link.Link`."""
        return await self._shown(lambda shown: self._ask(request, {**headers, **shown}, patience_seconds))

    async def _shown(self, ask: Callable[[Mapping[str, str]], Awaitable[T]]) -> T:
        """Ask with the credentials; once more where the server does not take them any more and there are others."""
        if self._credentials is None:
            return await ask({})
        shown = await self._credentials.headers()
        try:
            return await ask(shown)
        except UnauthenticatedError:
            if not await self._credentials.renewed(shown):
                raise
            return await ask(await self._credentials.headers())

    async def _ask(self, request: Request, headers: Mapping[str, str], patience_seconds: float | None) -> Reply:
        call = await self._call(request, headers, streaming=False, patience_seconds=patience_seconds)
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            raise self._explained(error) from error
        return Reply(_json(answer), _activated(await call.initial_metadata()))

    async def open(self, request: Request, headers: Mapping[str, str], patience_seconds: float | None) -> Frames:
        """See :class:`~a2a_events.client.link.Link`."""
        return await self._shown(lambda shown: self._open(request, {**headers, **shown}, patience_seconds))

    async def _open(self, request: Request, headers: Mapping[str, str], patience_seconds: float | None) -> Frames:
        call = await self._call(request, headers, streaming=True, patience_seconds=None)
        frames = GrpcFrames(call, self._explained)
        try:
            async with asyncio.timeout(patience_seconds):
                await frames.begin()
        except TimeoutError as error:
            await frames.aclose()
            raise NoAnswer(f"{self._at.url}: no answer came: too slow") from error
        except BaseException:
            await frames.aclose()
            raise
        return frames

    async def aclose(self) -> None:
        """See :class:`~a2a_events.client.link.Link`."""
        if self._opened is not None:
            await self._opened.close()

    async def _call(
        self, request: Request, headers: Mapping[str, str], *, streaming: bool, patience_seconds: float | None
    ) -> Any:
        name = name_of(request, streaming=streaming)
        if self._at.tenant:
            request = msgspec.structs.replace(request, tenant=self._at.tenant)
        try:
            message = json_format.Parse(encode(request), _REQUESTS[name]())
        except json_format.ParseError as error:
            raise InvalidParamsError(f"The request does not fit into the protocol: {error}") from error
        stub: Any = a2a_pb2_grpc.A2AServiceStub(await self._channel())  # type: ignore[no-untyped-call]  # generated
        # Metadata is ASCII, and a cursor any text: without it the server begins with the Task, which is no loss.
        given = {name.lower(): value for name, value in {**self._headers, **headers}.items()}
        metadata = [(key, value) for key, value in given.items() if key != "last-event-id" or value.isascii()]
        return getattr(stub, name)(message, metadata=metadata, timeout=patience_seconds)

    async def _channel(self) -> grpc.aio.Channel:
        """A channel that is connected: what fails after this may have been sent, what fails here was not.

        Raises:
            ConnectionFailed: nobody there.
        """
        channel = self._opened = self._opened or self._made()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                state = channel.get_state(try_to_connect=True)
                while state not in {grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE}:
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            state = grpc.ChannelConnectivity.TRANSIENT_FAILURE
        if state is grpc.ChannelConnectivity.READY:
            return channel
        # It would try again when it likes, and not tell. When to try again is for the policy of retries to say, so the
        # next call gets another channel; others may still wait for this one, the last closes it.
        if self._opened is channel:
            self._opened = None
        raise ConnectionFailed(f"{self._at.url} cannot be reached")

    def _made(self) -> grpc.aio.Channel:
        target, plain = _target(self._at.url)
        if self._make_channel:
            channel: grpc.aio.Channel = self._make_channel(target)
            return channel
        if plain:
            return grpc.aio.insecure_channel(target, options=_OPTIONS)
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options=_OPTIONS)

    def _explained(self, error: grpc.aio.AioRpcError) -> Exception:
        status = _status(error)
        if status is None and error.code() in _LOST:
            return NoAnswer(f"{self._at.url}: no answer came: {error.details()}")
        return _error(self._at.url, error, status)


class GrpcFrames:
    """The messages of one streaming call. gRPC has no ids: cursors come in the metadata of updates, if at all."""

    def __init__(self, call: Any, explained: Callable[[grpc.aio.AioRpcError], Exception]) -> None:
        self.extensions: frozenset[str] = frozenset()
        self._call = call
        self._explained = explained
        self._ahead: asyncio.Future[Any] | None = None
        self._opened = self._heard = time.monotonic()

    retry_seconds = 0.0

    @property
    def lived_seconds(self) -> float:
        """From opening to the end of the last read, whether it brought something or not."""
        return self._heard - self._opened

    async def begin(self) -> None:
        """Wait until the server has accepted or refused.

        Raises:
            A2AError: refused.
            NoAnswer: the connection broke.
        """
        ahead = self._ahead = asyncio.ensure_future(self._call.read())
        headers = asyncio.ensure_future(self._call.initial_metadata())
        try:
            await asyncio.wait((ahead, headers), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((ahead,), timeout=REFUSAL_SECONDS)
            if ahead.done() and (error := ahead.exception()) is not None:
                raise self._explained(error) if isinstance(error, grpc.aio.AioRpcError) else error
            self.extensions = _activated(await headers)
        finally:
            headers.cancel()

    async def read(self) -> list[Event] | None:
        """See :class:`~a2a_events.client.link.Frames`."""
        ahead = self._ahead or asyncio.ensure_future(self._call.read())
        self._ahead = None
        try:
            message = await ahead
        except grpc.aio.AioRpcError as error:
            raise self._explained(error) from error
        finally:
            self._heard = time.monotonic()  # up to now the connection was there: HTTP/2 itself sees to that
        return None if message is grpc.aio.EOF else [Event(_json(message))]

    def update(self, event: Event) -> bytes:
        """See :class:`~a2a_events.client.link.Frames`."""
        return event.data

    async def aclose(self, *, drain: bool = False) -> None:  # noqa: ARG002 -- the channel is shared and stays
        """See :class:`~a2a_events.client.link.Frames`."""
        self._call.cancel()
        if self._ahead is not None:
            await asyncio.wait((self._ahead,))
            if not self._ahead.cancelled():
                self._ahead.exception()  # looked at, so that nobody complains that it was not


def _target(url: str) -> tuple[str, bool]:
    """``host:port``, and whether to speak without TLS."""
    scheme, separator, rest = url.partition("://")
    target = (rest if separator else url).rstrip("/")
    host = target.rpartition(":")[0].strip("[]") or target
    return target, scheme in _PLAIN if separator else _is_loopback(host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _json(message: Message) -> bytes:
    return json_format.MessageToJson(message, indent=None).encode()


def _activated(metadata: Any) -> frozenset[str]:
    return named(",".join(str(value) for name, value in metadata or () if name == _EXTENSIONS))


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    """The ``google.rpc.Status`` that the server sent beside; None if it sent none."""
    for name, value in error.trailing_metadata() or ():
        if name == _DETAILS and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def _error(address: str, error: grpc.aio.AioRpcError, status: status_pb2.Status | None) -> A2AError | BadAnswer:
    """The same error that HTTP+JSON would have told of."""
    unpacked = [(detail.type_url, _unpacked(detail)) for detail in status.details] if status else []
    details = [{"@type": url, **json_format.MessageToDict(message)} for url, message in unpacked if message]
    http = _HTTP.get(error.code(), HTTPStatus.INTERNAL_SERVER_ERROR)
    fault = {"code": http.value, "status": error.code().name, "message": error.details() or "", "details": details}
    wait = next(
        (message.retry_delay for _, message in unpacked if isinstance(message, error_details_pb2.RetryInfo)), None
    )
    headers = {"retry-after": str(wait.seconds + (wait.nanos > 0))} if wait is not None else {}
    return error_of(Answer(address, http.value, headers, encode({"error": fault})))


def _unpacked(detail: any_pb2.Any) -> Message | None:
    for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
        message: Message = kind()
        if detail.Unpack(message):
            return message
    return None
