"""Rows 5, 13, 14, 16, 17, and members that come twice: over both bindings, in 1.0 and in 0.3."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest
import pytest_asyncio

from a2a_events import limits
from a2a_events.agents import echo
from a2a_events.testing import unique_namespace
from tests.integration.http import client, gateway_in_process
from tests.integration.stack import Stack, stack_of

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

MESSAGE = {
    "1.0": b'{"messageId":"m","role":"ROLE_USER","parts":[{"text":"%b"}],"metadata":%b}',
    "0.3": b'{"messageId":"m","role":"user","parts":[{"kind":"text","text":"%b"}],"metadata":%b}',
}
METHOD = {"1.0": b"SendMessage", "0.3": b"message/send"}
BOUND_SECONDS = 2.0
"""Ten times what the rows say: the machine may be busy."""


class Sender:
    """Sends a message over one binding of one version."""

    def __init__(self, http: httpx.AsyncClient, stack: Stack, binding: str, version: str) -> None:
        self._http = http
        self.stack = stack
        self.binding = binding
        self._version = version

    async def send(self, text: bytes = b"hello", metadata: bytes = b"{}", more: bytes = b"") -> httpx.Response:
        params = b'{"message":%b%b}' % (MESSAGE[self._version] % (text, metadata), more)
        headers = {"A2A-Version": self._version, "Content-Type": "application/json"}
        if self.binding == "JSONRPC":
            body = b'{"jsonrpc":"2.0","id":7,"method":"%b","params":%b}' % (METHOD[self._version], params)
            return await self._http.post("/", content=body, headers=headers)
        if self._version == "0.3":  # its REST form is that of its proto
            params = params.replace(b'"parts":', b'"content":').replace(b'"kind":"text",', b"")
            params = params.replace(b'"message":', b'"request":').replace(b'"user"', b'"ROLE_USER"')
            return await self._http.post("/v1/message:send", content=params, headers=headers)
        return await self._http.post("/message:send", content=params, headers=headers)

    async def refused(self, *codes: int, text: bytes = b"hello", metadata: bytes = b"{}") -> None:
        begun = time.monotonic()
        response = await self.send(text, metadata)
        took = time.monotonic() - begun
        if self.binding == "JSONRPC":
            assert (200, True) == (response.status_code, response.json()["error"]["code"] in codes), response.text
        else:
            assert response.status_code == 400, response.text
        assert "Traceback" not in response.text
        assert took < BOUND_SECONDS
        await self.taken(await self.send())

    async def taken(self, response: httpx.Response) -> dict[str, object]:
        shown = response.json()
        assert response.status_code == 200, response.text
        assert "error" not in shown, response.text
        task: dict[str, object] = shown.get("result", shown)
        return task.get("task", task)  # type: ignore[return-value]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(nats_url: str) -> AsyncIterator[tuple[httpx.AsyncClient, Stack]]:
    namespace = unique_namespace()
    async with AsyncExitStack() as exits:
        stack = await exits.enter_async_context(stack_of("jetstream", echo, nats_url, namespace))
        await stack.worker()
        url = await exits.enter_async_context(gateway_in_process(nats_url, namespace))
        yield await exits.enter_async_context(client(url)), stack


@pytest.fixture(params=[(b, v) for v in ("1.0", "0.3") for b in ("JSONRPC", "HTTP+JSON")], ids="-".join)
def sender(request: pytest.FixtureRequest, served: tuple[httpx.AsyncClient, Stack]) -> Sender:
    return Sender(*served, *request.param)


async def test_5_deep_json_is_refused(sender: Sender) -> None:
    await sender.refused(-32700, -32600, metadata=b"[" * 100_000)
    await sender.refused(-32700, -32600, metadata=b'{"a":' * 100_000 + b"1" + b"}" * 100_000)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"])
async def test_13_what_is_no_number_is_refused(sender: Sender, number: bytes) -> None:
    await sender.refused(-32700, -32602, metadata=b'{"a":[%b]}' % number)


@pytest.mark.parametrize("digits", [5_000, 10_000, 1_000_000])
async def test_14_a_number_of_very_many_digits_is_refused(sender: Sender, digits: int) -> None:
    await sender.refused(-32602, metadata=b'{"a":%b}' % (b"1" * digits))


@pytest.mark.parametrize("member", [b'"k%d":1', b'"%d":{}', b'"same%d":"a:b"'])
async def test_16_an_object_of_very_many_members_is_refused(sender: Sender, member: bytes) -> None:
    members = b",".join(member.replace(b"%d", b"%d" % number) for number in range(100_000))
    await sender.refused(-32602, metadata=b"{" + members + b"}")


async def test_16_an_object_of_many_members_is_taken(sender: Sender) -> None:
    members = b",".join(b'"k%d":"a:b"' % number for number in range(limits.JSON_NAMES - 1))
    await sender.taken(await sender.send(metadata=b"{" + members + b"}"))


@pytest.mark.parametrize("text", [b"\\ud800", b"\\udc00", b"a\\ud83dz", b"\\ude00\\ud83d"])
async def test_17_half_of_a_surrogate_pair_is_refused(sender: Sender, text: bytes) -> None:
    await sender.refused(-32602, text=text)
    await sender.refused(-32602, metadata=b'{"%b":1}' % text)


async def test_the_last_of_two_members_of_one_name_counts(sender: Sender) -> None:
    task = await sender.taken(await sender.send(b"first", b'{"a":1,"a":2}', b',"metadata":{"x":1},"metadata":{"x":2}'))
    (record, *_) = await sender.stack.records(str(task["id"]))
    assert b'"metadata":{"a":2}' in record.payload
    assert b'"metadata":{"x":2}' in record.payload
    assert b'"a":1' not in record.payload
