"""The calls of ``lf.a2a.v1.A2AService``, from its own descriptor and the table of all operations.

One port serves all agents. A request names its agent by its tenant, which is the path that the agent has over HTTP:
``agents/NAME``, with a tenant of the agent's own behind a further slash. Any other tenant is one of the default agent's
(ADR 0015).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, cast
from urllib.parse import unquote

import grpc
from a2a.types import a2a_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from msgspec import Struct

from a2a_events import limits, tracing
from a2a_events.bindings.aside import aside
from a2a_events.bindings.dialect import V1_0
from a2a_events.bindings.errors import shown
from a2a_events.bindings.exchange import STALENESS, Intake, Streams, staleness
from a2a_events.bindings.grpc import messages
from a2a_events.bindings.grpc.status import Context, refuse
from a2a_events.bindings.identity.access import Access
from a2a_events.bindings.identity.port import Presented
from a2a_events.bindings.methods import STREAMING, UNARY
from a2a_events.bindings.negotiation import active_extensions, not_served, version_of
from a2a_events.bindings.requests import Request
from a2a_events.errors import A2AError, InvalidRequestError, UnavailableError
from a2a_events.runtime.directory import Directory
from a2a_events.runtime.operations import Operations, Updates

SERVICE: Final = a2a_pb2.DESCRIPTOR.services_by_name["A2AService"]
_AGENTS: Final = "agents/"


class _Method(Struct, frozen=True):
    """One method: its name is the operation's."""

    name: str
    asked: type[Any]
    answered: type[Message]


class _Call:
    """One call under way."""

    __slots__ = ("_held", "_intake", "_payer", "_still", "context", "sending_since")

    def __init__(self, context: Context, still: Callable[[], bool], intake: Intake, payer: str) -> None:
        self.context = context
        self._still = still
        self._intake = intake
        self._payer = payer
        self._held = 0
        self.sending_since = 0.0

    async def read(self) -> bytes:
        """The request, which counts as held until :meth:`release`.

        Raises:
            InvalidRequestError: there is none.
            UnavailableError: too much is held, of the caller or of all.
        """
        content = cast("object", await self.context.read())  # the end of a stream has a value of its own
        if not isinstance(content, bytes):
            raise InvalidRequestError("A call has one request")
        self._intake.take(len(content), self._payer)
        self._held = len(content)
        return content

    def release(self) -> None:
        """The request, and all that was made of it, is let go. Releasing twice is harmless."""
        self._intake.give_back(self._held, self._payer)
        self._held = 0

    def waits(self, streams: Streams) -> Callable[[Awaitable[None]], Awaitable[None]]:
        """What runs a wait for the answer."""
        return partial(streams.wait, self)

    def holds(self) -> bool:
        """Whether the client may still be shown anything."""
        return self._still()

    async def write(self, message: bytes) -> None:
        """One message of a stream; waits while the client takes no more."""
        self.sending_since = time.monotonic()
        await self.context.write(message)
        self.sending_since = 0.0


class _StreamLost(UnavailableError):
    """A stream was ended from here; the task goes on."""

    def __init__(self, why: str) -> None:
        shortest, longest = limits.COME_BACK_MILLISECONDS
        super().__init__(
            f"The stream was ended ({why}); the task goes on: subscribe again",
            retry_after_seconds=random.randint(shortest // 1000, longest // 1000),  # noqa: S311 -- no secret
        )
        self.why = why


class A2AService:
    """The service of all agents behind a gateway."""

    def __init__(
        self, operations: Operations, directory: Directory, access: Access, streams: Streams, intake: Intake
    ) -> None:
        self._operations = operations
        self._access = access
        self._directory = directory
        self._streams = streams
        self._intake = intake

    def handler(self) -> grpc.GenericRpcHandler:
        """What serves its calls; messages are bytes there, so that no failure to read or write one escapes.

        To grpcio requests are streams of one message: so who calls is known before it is read, and nothing holds it but
        we. To clients that is the same.
        """
        methods = {method.name: self._handler(method) for method in SERVICE.methods}
        return grpc.method_handlers_generic_handler(SERVICE.full_name, methods)

    def _handler(self, described: MethodDescriptor) -> grpc.RpcMethodHandler[bytes, bytes]:
        method = _Method(described.name, GetMessageClass(described.input_type), GetMessageClass(described.output_type))

        async def serve(_requests: object, context: Context) -> bytes:
            return await self._serve(method, context)

        if method.name in STREAMING:
            return grpc.stream_stream_rpc_method_handler(serve)
        return grpc.stream_unary_rpc_method_handler(serve)

    async def _serve(self, method: _Method, context: Context) -> bytes:
        """Serve one call; every failure is a status."""
        request = Request("", self._directory, self._access, "GRPC", _metadata(context, "x-request-id"))
        request.operation = method.name
        trace = tracing.parse(_metadata(context, "traceparent"), _metadata(context, "tracestate"))
        with request.served(trace):
            return await self._serve_one(method, context, request)

    async def _serve_one(self, method: _Method, context: Context, request: Request) -> bytes:
        seen: A2AError
        try:
            await request.enter(_presented(context))
            request.permit(method.name)
            call = _Call(context, request.holds, self._intake, request.payer)
            answer = await self._answer(method, call, request)
            if isinstance(answer, Updates):
                request.outcome = await self._send(call, answer, method)
                return b""
            return answer
        except asyncio.CancelledError:
            request.outcome = "client gone"
            raise
        except _StreamLost as lost:
            request.outcome, seen = lost.why, lost
        except Exception as error:  # noqa: BLE001 -- the edge: whatever it is, the client gets the protocol's error
            seen = shown(error)
            request.failed(seen, error)
        return await refuse(context, seen)

    async def _answer(self, method: _Method, call: _Call, request: Request) -> bytes | Updates:
        """The serialized answer, or the stream that is the answer; until then what was sent counts as held."""
        try:
            return await self._dispatch(method, call, request)
        finally:
            call.release()

    async def _dispatch(self, method: _Method, call: _Call, request: Request) -> bytes | Updates:
        context = call.context
        content = await call.read()
        request.weighs(len(content))
        if version_of(_metadata(context, "a2a-version")) != V1_0.version:
            raise not_served(V1_0.version)
        message = messages.parse(content, method.asked)
        request.agent_name, tenant = _place(message.tenant)
        of = (UNARY[method.name] if method.name in UNARY else STREAMING[method.name])[0]
        asked = await aside(len(content), messages.request, message, tenant, of, self._intake.names)
        del content, message
        agent = await request.agent(asked)
        extensions = active_extensions(_metadata(context, "a2a-extensions"), agent.card)
        given = any(name == "idempotency-key" for name, _ in context.invocation_metadata() or ())
        key = _metadata(context, "idempotency-key") if given else None
        caller = request.caller(asked, agent, extensions, idempotency_key=key, waits=call.waits(self._streams))
        active = (("a2a-extensions", ",".join(extensions)),) if extensions else ()
        try:
            if method.name in UNARY:
                request.waits(asked, self._streams)
                answering = UNARY[method.name][1](self._operations, caller, agent, asked)
                del asked  # an answer may take its time
                result = await answering
                await _begin(context, active, result.staleness_seconds)
                request.shows(result)
                return await aside(len(result.json), messages.answer, result.json, method.answered)
            self._streams.check()
            request.open()
            cursor = _metadata(context, "last-event-id") or None
            updates = await STREAMING[method.name][1](self._operations, caller, agent, asked, cursor)
        except A2AError:
            await _begin(context, active, None)
            raise
        try:
            await _begin(context, active, updates.staleness_seconds)
        except BaseException:
            await updates.aclose()
            raise
        request.streams(updates)
        return updates

    async def _send(self, call: _Call, updates: Updates, method: _Method) -> str:
        """Send a stream until it ends or its client is gone; why it ended.

        Raises:
            _StreamLost: it was ended from here, as when the gateway stops.
        """
        stream = self._streams.begin(call, operation=method.name)
        try:
            async for run in updates:
                if not stream.begun:
                    stream.begun = True
                    tracing.event("first update")
                for update in run.updates:
                    await call.write(await aside(len(update.line), messages.answer, update.line, method.answered))
                updates.sent(run)
                if run.last:
                    stream.over = "terminal"
                    break
                del run  # what was sent is not kept while nothing comes
        except asyncio.CancelledError:
            if not stream.lost:
                stream.over = "client"
                raise
            stream.uncancel()
            raise _StreamLost(stream.lost) from None
        except aio.BaseError:  # nobody is there to be written to
            stream.over = "client"
            return "client gone"
        finally:
            self._streams.end(stream)
            await updates.aclose()
        return "ended"


async def _begin(context: Context, active: tuple[tuple[str, str], ...], staleness_seconds: float | None) -> None:
    """Send what comes before an answer: the extensions that are active, and how old it is if a mirror gave it."""
    if staleness_seconds is not None:
        active = (*active, (STALENESS.decode(), staleness(staleness_seconds).decode()))
    if active:
        await context.send_initial_metadata(active)


def _presented(context: Context) -> Presented:
    """What may say who calls."""

    def values(name: str) -> list[str]:
        return [str(value) for key, value in context.invocation_metadata() or () if key == name]

    return Presented(values, _address(context.peer()))


def _address(peer: str) -> str:
    """The address in what gRPC says of a peer: ``ipv4:127.0.0.1:1234``, ``ipv6:%5B::1%5D:1234``, ``unix:…``."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else ""


def _metadata(context: Context, key: str) -> str:
    """What the client sent under a key; several values are one list, as of a header, and repeated ones are one."""
    values = [str(value) for name, value in context.invocation_metadata() or () if name == key]
    return values[0] if len(values) == 1 else ",".join(dict.fromkeys(values))


def _place(tenant: str) -> tuple[str, str]:
    """The agent that a tenant names, empty for the default one, and the tenant that is left."""
    if not tenant.startswith(_AGENTS):
        return "", tenant
    name, _, rest = tenant.removeprefix(_AGENTS).partition("/")
    return name, rest
