"""Requests as bytes on a wire: one call, spelled in either binding, and what came back of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
from msgspec import Struct

JSONRPC = "JSONRPC"
HTTP_JSON = "HTTP+JSON"
BINDINGS = (JSONRPC, HTTP_JSON)

RPC_ID = 7
"""Of every JSON-RPC request."""


class Failure(Struct, frozen=True):
    """An error as its binding shows it."""

    http_status: int
    code: int
    """JSON-RPC's, or the one in the body of HTTP+JSON."""
    message: str
    details: list[dict[str, Any]]
    body: dict[str, Any]

    @property
    def reason(self) -> str:
        """Of the ErrorInfo, which comes first."""
        return str(self.details[0]["reason"])

    @property
    def fields(self) -> list[str]:
        """Those named as wrong."""
        return [violation["field"] for detail in self.details for violation in detail.get("fieldViolations", [])]


class Frame(Struct, frozen=True):
    """One server-sent event: its cursor, and the StreamResponse or error in it."""

    id: str
    data: dict[str, Any]

    @property
    def kind(self) -> str:
        """The member that the StreamResponse holds."""
        (member,) = self.data
        return member

    @property
    def state(self) -> str:
        """Of the task that it shows, or whose status it is; empty for an artifact or message."""
        content = self.data.get("task") or self.data.get("statusUpdate") or {}
        return str(content.get("status", {}).get("state", ""))


class Caller:
    """One binding of one agent.

    Args:
        http: with the gateway's base URL.
        binding: JSONRPC or HTTP+JSON.
        path: of the agent below the base URL.
    """

    def __init__(self, http: httpx.AsyncClient, binding: str, path: str = "") -> None:
        self.http = http
        self.binding = binding
        self.path = path

    async def call(self, operation: str, params: dict[str, Any], **given: Any) -> Any:
        """The result of an operation that must succeed."""
        response = await self.http.send(self.request(operation, params, **given))
        document = response.json()
        if self.binding == JSONRPC:
            assert (200, "2.0", RPC_ID) == (response.status_code, document["jsonrpc"], document["id"]), document
            assert {"jsonrpc", "id", "result"} == set(document), document
            return document["result"]
        assert response.status_code == 200, document
        return document

    async def refused(self, operation: str, params: dict[str, Any], **given: Any) -> Failure:
        """The error of an operation that must fail; streaming or not, it is an answer and no stream."""
        return failure(self.binding, await self.http.send(self.request(operation, params, **given)))

    @asynccontextmanager
    async def stream(self, operation: str, params: dict[str, Any], **given: Any) -> AsyncIterator[Stream]:
        """The stream of an operation that must succeed."""
        response = await self.http.send(self.request(operation, params, **given), stream=True)
        try:
            if response.status_code != 200 or "event-stream" not in response.headers["content-type"]:
                raise AssertionError((await response.aread()).decode())
            yield Stream(response, self.binding)
        finally:
            await response.aclose()

    async def frames(self, operation: str, params: dict[str, Any], **given: Any) -> list[Frame]:
        """A whole stream."""
        async with self.stream(operation, params, **given) as stream:
            return [frame async for frame in stream]

    def request(
        self,
        operation: str,
        params: dict[str, Any],
        *,
        headers: dict[str, str] | None = None,
        query: str = "",
        version: str | None = "1.0",
    ) -> httpx.Request:
        """The request, spelled in this binding. HTTP+JSON takes the id and what GetTask asks out of ``params``."""
        sent = {**({"A2A-Version": version} if version is not None else {}), **(headers or {})}
        if self.binding == JSONRPC:
            body = {"jsonrpc": "2.0", "id": RPC_ID, "method": operation, "params": params}
            sent = {"content-type": "application/json", **sent}
            return self.http.build_request("POST", f"{self.path}/{query}", content=json.dumps(body), headers=sent)
        sent = {"content-type": "application/a2a+json", **sent}
        verb, path = _PLACES[operation]
        rest = dict(params)
        if "{id}" in path:
            path = path.replace("{id}", _quoted(rest.pop("id")))
        if "{taskId}" in path:
            path = path.replace("{taskId}", _quoted(rest.pop("taskId")))
        if "{configId}" in path:
            path = path.replace("{configId}", _quoted(rest.pop("id")))
        if verb in {"GET", "DELETE"}:
            asked = "&".join([*([query.lstrip("?")] if query else []), *(f"{k}={_text(v)}" for k, v in rest.items())])
            return self.http.build_request(verb, f"{self.path}{path}" + (f"?{asked}" if asked else ""), headers=sent)
        return self.http.build_request(verb, f"{self.path}{path}{query}", content=json.dumps(rest), headers=sent)


class Stream:
    """The frames of one response, as they come."""

    def __init__(self, response: httpx.Response, binding: str) -> None:
        self.response = response
        self._binding = binding
        self._lines = response.aiter_lines()

    async def __aiter__(self) -> AsyncIterator[Frame]:
        cursor = ""
        async for line in self._lines:
            name, _, value = line.partition(": ")
            if name == "id":
                cursor = value
            elif name == "data":
                document = json.loads(value)
                if self._binding == JSONRPC:
                    assert ("2.0", RPC_ID) == (document["jsonrpc"], document["id"]), document
                    document = document["result"]
                yield Frame(cursor, document)
                cursor = ""
            else:
                assert not name or line.startswith(":"), f"unexpected line {line!r}"


def failure(binding: str, response: httpx.Response) -> Failure:
    """The error that a response holds, checked member by member."""
    assert response.headers["content-type"] == "application/json", response.text
    document = response.json()
    if binding == JSONRPC:
        assert {"jsonrpc", "id", "error"} == set(document), document
        error = document["error"]
        assert {"code", "message", "data"} == set(error), error
        details = error["data"]
    else:
        assert {"error"} == set(document), document
        error = document["error"]
        assert {"code", "status", "message", "details"} == set(error), error
        assert response.status_code == error["code"]
        details = error["details"]
    assert all(detail["@type"].startswith("type.googleapis.com/google.rpc.") for detail in details)
    assert ("type.googleapis.com/google.rpc.ErrorInfo", "a2a-protocol.org") == (
        details[0]["@type"],
        details[0]["domain"],
    )
    assert all(isinstance(value, str) for value in details[0].get("metadata", {}).values())
    return Failure(response.status_code, error["code"], error["message"], details, document)


def message(*parts: dict[str, Any] | str, **members: Any) -> dict[str, Any]:
    """A client's message."""
    made = [{"text": part} if isinstance(part, str) else part for part in parts]
    return {"messageId": "m-1", "role": "ROLE_USER", "parts": made, **members}


def script(**members: Any) -> dict[str, Any]:
    """What tells the scripted agent what to do."""
    return {"data": {"script": members}}


def send(*parts: dict[str, Any] | str, configuration: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """Parameters of SendMessage."""
    asked: dict[str, Any] = {"message": message(*parts, **members)}
    if configuration is not None:
        asked["configuration"] = configuration
    return asked


def _text(value: Any) -> str:
    """A member's value in a query: booleans as JSON writes them."""
    return quote(str(value).lower() if isinstance(value, bool) else str(value), safe="")


def _quoted(segment: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "".join(f"%{byte:02X}" for byte in c.encode()) for c in segment)


_PLACES = {
    "SendMessage": ("POST", "/message:send"),
    "SendStreamingMessage": ("POST", "/message:stream"),
    "GetTask": ("GET", "/tasks/{id}"),
    "ListTasks": ("GET", "/tasks"),
    "CancelTask": ("POST", "/tasks/{id}:cancel"),
    "SubscribeToTask": ("POST", "/tasks/{id}:subscribe"),
    "CreateTaskPushNotificationConfig": ("POST", "/tasks/{taskId}/pushNotificationConfigs"),
    "GetTaskPushNotificationConfig": ("GET", "/tasks/{taskId}/pushNotificationConfigs/{configId}"),
    "ListTaskPushNotificationConfigs": ("GET", "/tasks/{taskId}/pushNotificationConfigs"),
    "DeleteTaskPushNotificationConfig": ("DELETE", "/tasks/{taskId}/pushNotificationConfigs/{configId}"),
    "GetExtendedAgentCard": ("GET", "/extendedAgentCard"),
}
