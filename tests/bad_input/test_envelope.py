"""Group B: JSON that is no request of JSON-RPC. HTTP+JSON has no envelope."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.bad_input.rows import METHOD, PARAMS, REQUEST, Refusal
from tests.bad_input.site import Site
from tests.interop.wire import JSONRPC, RPC_ID, send

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.asyncio(loop_scope="session")]

MISSING: Any = object()


def envelope(**members: Any) -> bytes:
    """A good request with other members."""
    whole = {"jsonrpc": "2.0", "id": RPC_ID, "method": "SendMessage", "params": send("hi"), **members}
    return json.dumps({name: value for name, value in whole.items() if value is not MISSING}).encode()


ENVELOPES: dict[str, tuple[bytes, Refusal]] = {
    "row-23-1.0": (envelope(jsonrpc="1.0"), REQUEST),
    "row-23-absent": (envelope(jsonrpc=MISSING), REQUEST),
    "row-23-a-number": (envelope(jsonrpc=2.0), REQUEST),
    "row-23-null": (envelope(jsonrpc=None), REQUEST),
    "row-23-a-batch": (b"[" + envelope() + b"]", REQUEST),
    "row-23-an-empty-batch": (b"[]", REQUEST),
    "row-23-a-number-alone": (b"1", REQUEST),
    "row-25-unknown": (envelope(method="DropTable"), METHOD),
    "row-25-dunder": (envelope(method="__init__"), METHOD),
    "row-25-of-0.3": (envelope(method="message/send"), METHOD),
    "row-25-in-lower-case": (envelope(method="sendmessage"), METHOD),
    "row-25-in-camel-case": (envelope(method="sendMessage"), METHOD),
    "row-25-with-a-service": (envelope(method="lf.a2a.v1.A2AService/SendMessage"), METHOD),
    "row-25-with-a-space": (envelope(method="SendMessage "), METHOD),
    "row-25-with-a-null": (envelope(method="SendMessage\0"), METHOD),
    "row-25-of-100-kb": (envelope(method="x" * 100_000), METHOD),
    "row-25-lines": (envelope(method='x\r\n{"level":"error"}'), METHOD),
    "row-25-no-method": (envelope(method=MISSING), REQUEST),
    "row-25-an-empty-method": (envelope(method=""), REQUEST),
    "row-25-a-method-that-is-a-number": (envelope(method=7), REQUEST),
    "row-26-an-object": (envelope(id={}), REQUEST),
    "row-26-an-array": (envelope(id=[1]), REQUEST),
    "row-26-true": (envelope(id=True), REQUEST),
    "row-28-a-notification": (envelope(id=MISSING), REQUEST),
    "row-28-a-notification-of-a-stream": (envelope(id=MISSING, method="SendStreamingMessage"), REQUEST),
    "row-29-an-array": (envelope(params=[send("hi")]), PARAMS),
    "row-29-a-string": (envelope(params="hi"), PARAMS),
    "row-29-null": (envelope(params=None), PARAMS),
    "row-29-absent": (envelope(params=MISSING), PARAMS),
    "row-29-a-number": (envelope(params=1), PARAMS),
}


@pytest.mark.parametrize("case", ENVELOPES)
async def test_what_is_no_request_of_json_rpc_is_refused(site: Site, case: str) -> None:
    body, refusal = ENVELOPES[case]
    response = await site.post(JSONRPC, body)
    refusal.check(JSONRPC, response)
    # Who cannot be told which request failed is told null.
    assert response.json()["id"] == (None if refusal is REQUEST else RPC_ID)


@pytest.mark.parametrize("request_id", ["0", "-1", "1.5", "1e3", '""', '"\\u0000"', '"é\\u2028"', "null", "1" * 300])
async def test_any_other_id_comes_back_as_it_was_written(site: Site, request_id: str) -> None:
    body = f'{{"jsonrpc":"2.0","id":{request_id},"method":"GetTask","params":{{"id":"x"}}}}'
    response = await site.post(JSONRPC, body.encode())
    assert f'"id":{request_id},' in response.text


@pytest.mark.parametrize("digits", [b"7" * 10_000, b"1e999"])
async def test_an_id_that_nobody_could_read_back_is_refused(site: Site, digits: bytes) -> None:
    response = await site.post(JSONRPC, envelope().replace(b'"id": 7', b'"id": ' + digits))
    assert response.json()["error"]["code"] in {-32700, -32602, -32600}
