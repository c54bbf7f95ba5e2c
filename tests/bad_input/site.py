"""What bad input is sent to: processes as they would stand on the internet, and what must hold after each row.

One gateway and one worker over a nats-server of their own. Callers have tokens, bodies may have 1 MB, spans are
written.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from msgspec import Struct

from a2a_events.log.jetstream import Connection
from a2a_events.log.patience import patiently
from a2a_events.services.nats_server import NatsServer
from a2a_events.testing import Deployment, free_port
from tests.bad_input.issuer import AUDIENCE, Issuer
from tests.interop.wire import HTTP_JSON, JSONRPC, Caller, send

REQUEST_BYTES = 1024 * 1024
"""Largest body, a setting: the list's 1 MB. By itself it is 20 MB, because a message may have 16."""
SENDS_AT_ONCE = 50
"""How many callers send one message at the same time; each may have to wait, which counts as an open stream."""
STREAMS = SENDS_AT_ONCE + 10
"""Open streams that a tenant may have."""
HISTORY_MESSAGES = 20
"""Messages of history in an answer."""
HEADER_SECONDS = 2.0
"""What the headers of a request may take."""
LIMITS = {
    "streams_per_tenant": str(STREAMS),
    "history_messages": str(HISTORY_MESSAGES),
    "header_seconds": str(HEADER_SECONDS),
    "rate_per_tenant": "0",
    "rate_per_address": "0",
}
"""Settings that make the limits of rows small, and put those out of the way that would meet the suite itself."""
ANSWER_SECONDS = 20.0
"""What an answer may take: bounds hanging, and nothing else."""
_GROWS_BY_ITSELF = re.compile(r"_(REGISTRY|TIMER)_")
"""Where workers say that they are alive, and where wake-ups of tasks fall due."""


class Answer(Struct, frozen=True):
    """One answer as it came over a socket."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Before(Struct, frozen=True):
    """How everything stood before bad input."""

    stored: dict[str, int]
    logged_bytes: int
    answered: int


class Site:
    """The gateway, who may use it, and what is behind it."""

    def __init__(
        self, deployment: Deployment, server: NatsServer, issuer: Issuer, monitor_port: int, folder: Path
    ) -> None:
        self.deployment = deployment
        self.server = server
        self.spans = folder / "spans"
        self.grpc = ""
        (self.gateway,) = deployment.gateways
        self._issuer = issuer
        self._monitor_port = monitor_port
        self.answered: list[str] = []
        """Everything that it has answered, for who looks for secrets and internals."""
        self.appends = False
        """Whether the row under test says that something is stored."""
        self.tokens: dict[tuple[str, str], str] = {}
        self.kept: dict[str, str] = {}
        """Tasks that serve more than one test."""
        self._next = JSONRPC

    async def open(self, exits: AsyncExitStack) -> None:
        """Connect to all that is asked in every row."""
        self._connection = Connection([self.deployment.nats], name="bad-input")
        await self._connection.open()
        exits.push_async_callback(self._connection.close)
        self.nobody = await exits.enter_async_context(httpx.AsyncClient(timeout=ANSWER_SECONDS))
        self.http = await exits.enter_async_context(self.client("alice"))
        self._connected = await self._connections()
        self._known = (await self.task())["id"]

    def token(self, subject: str = "alice", tenant: str = "acme") -> str:
        """Of one of the callers."""
        made = self.tokens.get((subject, tenant))
        if made is None:
            made = self._issuer.token(subject, tenant=tenant, exp=int(time.time()) + 3600)
            self.tokens[subject, tenant] = made
        return made

    def client(self, subject: str, tenant: str = "acme") -> httpx.AsyncClient:
        """Who shows a token with every request."""
        return httpx.AsyncClient(
            base_url=self.gateway.url,
            timeout=ANSWER_SECONDS,
            headers={"Authorization": f"Bearer {self.token(subject, tenant)}"},
            event_hooks={"response": [self._heard]},
        )

    async def _heard(self, response: httpx.Response) -> None:
        if "event-stream" not in response.headers.get("content-type", ""):
            await response.aread()
            self.answered.append(f"{response.status_code} {response.headers} {response.text}")

    def caller(self, binding: str, agent: str = "") -> Caller:
        """Alice, in one binding."""
        return Caller(self.http, binding, f"/agents/{agent}" if agent else "")

    async def post(self, binding: str, body: bytes, operation: str = "SendMessage", **headers: str) -> httpx.Response:
        """A body of a binding, whatever is in it."""
        path = "/" if binding == JSONRPC else {"SendMessage": "/message:send"}.get(operation, "/message:stream")
        sent = {"A2A-Version": "1.0", "content-type": "application/json"}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        return await self.http.post(path, content=body, headers=sent)

    def head(self, line: str, *headers: str, subject: str = "alice") -> bytes:
        """The head of a request of Alice's, as bytes."""
        fields = ["Host: x", "A2A-Version: 1.0", f"Authorization: Bearer {self.token(subject)}", *headers]
        return "\r\n".join([f"{line} HTTP/1.1", *fields, "", ""]).encode("latin-1")

    async def converse(self, *sent: bytes, half_close: bool = False) -> list[Answer]:
        """Send bytes, and read what comes until the server closes the connection; the answers.

        Raises:
            TimeoutError: it does not.
        """
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
            try:
                try:
                    for piece in sent:
                        writer.write(piece)
                        await writer.drain()
                    if half_close:
                        writer.write_eof()
                except ConnectionError:
                    pass  # it has heard enough
                came = await _everything(reader)
            finally:
                writer.transport.abort()
        self.answered.append(came.decode("latin-1"))
        return _answers(came)

    async def task(self, binding: str = HTTP_JSON, **script: Any) -> dict[str, Any]:
        """A task of Alice's that has ended."""
        self.appends = True
        result = await self.caller(binding).call("SendMessage", send({"data": {"script": {"chunks": 1, **script}}}))
        task: dict[str, Any] = result["task"]
        return task

    async def _api(self, verb: str, payload: object = None) -> Any:
        """As of the connection; asked again where the server gave it up while other tests had other loops."""
        return await patiently(partial(self._connection.api, verb, payload), verb)

    async def stored(self) -> dict[str, int]:
        """Where every stream of the namespace ends."""
        listed = await self._api("STREAM.LIST")
        return {
            stream["config"]["name"]: stream["state"]["last_seq"]
            for stream in listed["streams"]
            if not _GROWS_BY_ITSELF.search(stream["config"]["name"])
        }

    async def subjects(self) -> set[str]:
        """Every subject under which something is stored."""
        found: set[str] = set()
        for stream in (await self._api("STREAM.LIST"))["streams"]:
            info = await self._api(f"STREAM.INFO.{stream['config']['name']}", {"subjects_filter": ">"})
            found.update(info["state"].get("subjects") or {})
        return found

    async def stored_since(self, before: dict[str, int]) -> list[str]:
        """The headers of all that was stored since then, as the server keeps them."""
        found = []
        for stream, last in (await self.stored()).items():
            for sequence in range(before[stream] + 1, last + 1):
                answer = await self._api(f"STREAM.MSG.GET.{stream}", {"seq": sequence})
                found.append(base64.b64decode(answer["message"].get("hdrs", "")).decode())
        return found

    async def _connections(self) -> dict[int, str]:
        """Those that services have to the server, by id."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._monitor_port)
        writer.write(b"GET /connz HTTP/1.0\r\n\r\n")
        answer = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
        writer.close()
        named = {each["cid"]: each.get("name", "") for each in answer["connections"]}
        return {cid: name for cid, name in named.items() if name.startswith("a2a-events-")}

    async def before(self) -> Before:
        """How everything stands now."""
        self.appends = False
        return Before(await self.stored(), self._log_file.stat().st_size, len(self.answered))

    @property
    def _log_file(self) -> Path:
        return self.gateway._log_file

    async def check_unharmed(self, before: Before) -> None:
        """What must hold after every row, whatever was sent."""
        assert self.gateway.running, "the process lives"
        assert all(worker.running for worker in self.deployment.workers)
        if not self.appends:
            stored = await self.stored()
            grown = {name: (last, stored[name]) for name, last in before.stored.items() if last != stored[name]}
            assert not grown, f"nothing was appended: {grown}"
        assert await self._connections() == self._connected, "nobody has lost the connection to NATS"
        with self._log_file.open("rb") as log:
            log.seek(before.logged_bytes)
            logged = log.read().decode()
        assert '"level":"error"' not in logged, logged
        for text in (logged, *self.answered[before.answered :]):
            assert "Traceback" not in text, text
            self.check_no_secret(text)
        for answer in self.answered[before.answered :]:
            assert not re.match(r"(HTTP/1.1 )?500", answer), answer
        self._next = JSONRPC if self._next == HTTP_JSON else HTTP_JSON
        caller = self.caller(self._next)
        # What was appended was worked on; what was refused can be seen by the gateway alone.
        if self.appends:
            shown = (await caller.call("SendMessage", send("still there?")))["task"]
        else:
            shown = await caller.call("GetTask", {"id": self._known})
        assert shown["status"]["state"] == "TASK_STATE_COMPLETED", "the next request works"

    def check_no_secret(self, text: str) -> None:
        """That a text holds the token of nobody."""
        for token in self.tokens.values():
            assert token not in text
            assert token.rpartition(".")[2] not in text, "nor its signature"


async def _everything(reader: asyncio.StreamReader) -> bytes:
    came = bytearray()
    try:
        while piece := await reader.read(65536):
            came += piece
    except ConnectionError:
        pass  # closed in the middle of what it would not read
    return bytes(came)


def _answers(came: bytes) -> list[Answer]:
    found = []
    while came:
        head, _, rest = came.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        status = int(line.split(" ")[1])
        length = 0 if status == 100 else int(headers.get("content-length", len(rest)))
        found.append(Answer(status, headers, rest[:length]))
        came = rest[length:]
    return found


@asynccontextmanager
async def standing(folder: Path) -> AsyncIterator[Site]:
    """The site, for as long as this is entered."""
    issuer = Issuer(free_port())
    (folder / "keys.json").write_text(json.dumps(issuer.jwks()))
    (folder / "spans").mkdir()
    monitor_port, grpc_port = free_port(), free_port()
    server = NatsServer(sync="2m", more=f"http: 127.0.0.1:{monitor_port}\n")
    await server.start()
    async with AsyncExitStack() as exits:
        exits.callback(server.clean)
        exits.push_async_callback(server.stop)
        deployment = Deployment(
            server.url,
            agents=",".join(f"tests.interop.agents:{name}" for name in ("scripted", "echo", "strict", "quiet")),
            settings={
                "auth": "jwt",
                "auth_jwt_issuer": issuer.url,
                "auth_jwt_audience": AUDIENCE,
                "auth_jwt_keys": str(folder / "keys.json"),
                "auth_jwt_tenant": "tenant",
                "default_agent": "scripted",
                "request_bytes": str(REQUEST_BYTES),
                "grpc_port": str(grpc_port),
                "sweep": "false",  # which writes now and then how far it has come
                **LIMITS,
                "traces": f"file:{folder / 'spans'}",
            },
        )
        await exits.enter_async_context(deployment)
        site = Site(deployment, server, issuer, monitor_port, folder)
        site.grpc = f"127.0.0.1:{grpc_port}"
        await site.open(exits)
        yield site
