"""The routes of a gateway, as a Litestar application.

The default agent is at the root and every agent below ``/agents/<name>``; both have the same paths. Handlers are ASGI
handlers, because a stream's send loop is its own (design, hot path 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast
from urllib.parse import unquote

from litestar import Litestar, asgi
from litestar.types import HTTPScope, Receive, Scope, Send

from a2a_events.bindings import fasta2a
from a2a_events.bindings.card import CardForm, Cards, Signer
from a2a_events.bindings.errors import headers_of, http_body
from a2a_events.bindings.exchange import Exchange, Intake, Streams
from a2a_events.bindings.http_json import HttpJson, MethodNotAllowed
from a2a_events.bindings.identity.access import Access
from a2a_events.bindings.jsonrpc import Fasta2a, JsonRpc
from a2a_events.bindings.requests import Request
from a2a_events.bindings.timelines import debugging as timelines
from a2a_events.errors import TaskNotFoundError, UnavailableError
from a2a_events.model import encode
from a2a_events.runtime.directory import Directory
from a2a_events.runtime.operations import Operations

CARD_PATH = "/.well-known/agent-card.json"
V0_3_CARD_PATH = "/.well-known/agent.json"
"""Where clients looked before 0.3; a card for 0.3 alone."""

KEYS_PATH: Final = "/.well-known/jwks.json"
"""The keys that cards are signed with, for everybody, at the root."""


def create_app(
    operations: Operations,
    directory: Directory,
    *,
    access: Access | None = None,
    streams: Streams | None = None,
    intake: Intake | None = None,
    unready: Callable[[], list[str]] = list,
    dead: Callable[[], list[str]] = list,
    hybrid_card: bool = False,
    signer: Signer | None = None,
    debugging: timelines.Debugging | None = None,
    debugging_port: int = 0,
    lifespan: Sequence[Any] = (),
) -> Litestar:
    """The application of one gateway.

    Args:
        operations: what it offers.
        directory: the agents it serves.
        access: who may come in and do what; default: anybody anything.
        streams: where open streams are kept, for who wants to end them.
        intake: what request bodies are counted against.
        unready: why requests should not be sent here right now; empty if they should.
        dead: why the process should be started anew; empty if it is worth keeping.
        hybrid_card: whether the card also holds the members of A2A 0.3.
        signer: signs cards; None: they go without signatures.
        debugging: shows timelines, below ``/debug/timelines`` of each agent; None: nothing is there.
        debugging_port: where it does, and where nothing else is shown; 0: beside the bindings.
        lifespan: Litestar lifespan managers.
    """
    streams = streams or Streams()
    bodies = intake or Intake()
    access = access or Access()
    endpoints = {"": JsonRpc(operations, streams), fasta2a.PATH: Fasta2a(operations, streams)}
    http_json = HttpJson(operations, streams)
    cards = Cards(signer)
    forms = {
        CARD_PATH: CardForm.HYBRID if hybrid_card else CardForm.V1_0,
        V0_3_CARD_PATH: CardForm.V0_3,
        f"/{fasta2a.PATH}{CARD_PATH}": CardForm.FASTA2A,
    }

    @asgi("/livez", copy_scope=False)
    async def livez(scope: Scope, receive: Receive, send: Send) -> None:
        await _probe(_exchange(scope, receive, send, bodies), dead())

    @asgi("/readyz", copy_scope=False)
    async def readyz(scope: Scope, receive: Receive, send: Send) -> None:
        await _probe(_exchange(scope, receive, send, bodies), unready())

    @asgi("/", is_mount=True, copy_scope=False)
    async def agents(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _exchange(scope, receive, send, bodies)
        if streams.closing:
            exchange.add_header(b"connection", b"close")  # what comes next had better go to another gateway
        name, path = _place(exchange.scope)
        debugs = debugging is not None and path.startswith(f"/{timelines.PREFIX}")
        apart = bool(debugging_port) and _port(exchange.scope) == debugging_port
        if apart and not debugs:
            await exchange.answer(404, http_body(TaskNotFoundError("Only the debugging API is served here")))
            return
        if (form := forms.get(unquote(path))) is not None:
            await card(exchange, name, form)
            return
        if path == KEYS_PATH and not name and signer is not None:
            await cards.serve_keys(exchange)
            return
        if debugging is not None and debugs and (apart or not debugging_port):
            request = _request(exchange, name, directory, access, "DEBUG")
            with request.served(exchange.trace):
                await debugging(exchange, request, path.removeprefix(f"/{timelines.PREFIX}"))
            return
        rpc = endpoints.get(path.strip("/"))
        if rpc is not None and exchange.method != "POST":
            refused = MethodNotAllowed("POST")
            await exchange.answer(refused.http_status, http_body(refused), headers=[(b"allow", b"POST")])
            return
        request = _request(exchange, name, directory, access, "JSONRPC" if rpc else "HTTP+JSON")
        with request.served(exchange.trace):
            try:
                await (rpc(exchange, request) if rpc else http_json(exchange, request, path.strip("/")))
            finally:
                exchange.release()

    async def card(exchange: Exchange, name: str, form: CardForm) -> None:
        try:
            await access.arrive(exchange.presented)
            found = await directory.find(name)
        except UnavailableError as error:
            await exchange.answer(error.http_status, http_body(error), headers=headers_of(error))
            return
        if found is None:
            await exchange.answer(404, http_body(TaskNotFoundError("No agent is served here")))
        else:
            await cards.serve(exchange, found.card, name, form)

    return Litestar(
        route_handlers=[livez, readyz, agents],
        lifespan=list(lifespan),
        openapi_config=None,
        logging_config=None,
    )


def probe(failing: list[str]) -> tuple[int, bytes]:
    """Status and body of a probe: what is wrong, in plain words; nothing if nothing is."""
    return (503, encode({"status": failing[0], "failing": failing})) if failing else (200, b'{"status":"ok"}')


async def _probe(exchange: Exchange, failing: list[str]) -> None:
    await exchange.answer(*probe(failing))


def _request(exchange: Exchange, agent: str, directory: Directory, access: Access, binding: str) -> Request:
    """A request, whose answer will say by which id our log knows it."""
    request = Request(agent, directory, access, binding, exchange.header(b"x-request-id"))
    exchange.add_header(b"x-request-id", request.request_id.encode())
    return request


def _exchange(scope: Scope, receive: Receive, send: Send, intake: Intake) -> Exchange:
    return Exchange(cast("HTTPScope", scope), receive, send, intake)  # WebSocket routes would be registered as such


def _port(scope: HTTPScope) -> int:
    """Of ours, at which a request has come; whatever it says of its host."""
    server = scope["server"]
    return (server[1] or 0) if server else 0


def _place(scope: HTTPScope) -> tuple[str, str]:
    """Agent, and the raw path below it: an encoded slash in an id or a tenant stays there."""
    raw = scope["raw_path"] or scope["path"].encode()
    path = raw.split(b"?")[0].decode("latin-1")
    name = ""
    if path.startswith("/agents/"):
        name, _, path = path.removeprefix("/agents/").partition("/")
        path = "/" + path
    return unquote(name), path
