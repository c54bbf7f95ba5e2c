"""Group A: bodies that are no JSON, no HTTP, or too much of either."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable

import pytest

from tests.bad_input.rows import PARSE, Refusal, check_refused
from tests.bad_input.site import REQUEST_BYTES, Site
from tests.interop.wire import BINDINGS, HTTP_JSON, JSONRPC, message, send

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.asyncio(loop_scope="session")]

PATHS = {JSONRPC: "/", HTTP_JSON: "/message:send"}
TOO_LARGE = Refusal(-32602, 413, "PAYLOAD_TOO_LARGE", by_http=True)
COMPRESSED = Refusal(-32600, 415, "UNSUPPORTED_ENCODING", by_http=True)


def framed(binding: str, params: bytes) -> bytes:
    """Parameters of SendMessage as the body of a binding."""
    return b'{"jsonrpc":"2.0","id":7,"method":"SendMessage","params":' + params + b"}" if binding == JSONRPC else params


def with_metadata(content: bytes) -> bytes:
    """Parameters of SendMessage with this in their metadata."""
    return json.dumps({"message": message("hi")})[:-1].encode() + b',"metadata":{"a":' + content + b"}}"


def whole(binding: str) -> bytes:
    """A good body."""
    return framed(binding, json.dumps(send("hi")).encode())


NOT_JSON: dict[str, Callable[[str], bytes]] = {
    "row-1-nothing": lambda _: b"",
    "row-1-white-space": lambda _: b" \r\n\t",
    "row-2-text": lambda _: b"hello",
    "row-2-xml": lambda _: b"<a/>",
    "row-2-null": lambda _: b"\x00",
    "row-2-the-first-member": lambda _: b'{"jsonrpc":',
    "row-2-all-but-the-end": lambda binding: whole(binding)[:-1],
    "row-2-something-after-it": lambda binding: whole(binding) + b"x",
    "row-4-utf-16": lambda binding: whole(binding).decode().encode("utf-16"),
    "row-4-utf-16-without-a-mark": lambda binding: whole(binding).decode().encode("utf-16-le"),
    "row-4-utf-8-with-a-mark": lambda binding: b"\xef\xbb\xbf" + whole(binding),
    "row-5-arrays": lambda _: b"[" * 100_000,
    "row-5-objects": lambda _: b'{"a":' * 100_000,
    "row-5-in-metadata": lambda binding: framed(binding, with_metadata(b"[" * 100_000 + b"]" * 100_000)),
    "row-5-behind-a-bad-escape": lambda binding: framed(binding, with_metadata(b'"\\\n",' + b'"b":' + b"[" * 100_000)),
}


@pytest.mark.parametrize("case", NOT_JSON)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_what_is_not_json_is_refused(site: Site, binding: str, case: str) -> None:
    response = await site.post(binding, NOT_JSON[case](binding))
    assert [] == PARSE.check(binding, response)
    assert binding != JSONRPC or response.json()["id"] is None


MANY_KEYS = b"{" + b",".join(b'"%x":0' % number for number in range(100_000)) + b"}"
VALUES: dict[str, bytes] = {
    "row-4-not-utf-8": b'"\xff\xfe"',
    "row-13-nan": b"NaN",
    "row-13-infinity": b"Infinity",
    "row-13-minus-infinity": b"-Infinity",
    "row-13-1e999": b"1e999",
    "row-13-minus-1e999": b"-1e999",
    "row-14-10000-digits": b"7" * 10_000,
    "row-14-10000-digits-negative": b"-" + b"7" * 10_000,
    "row-14-10000-digits-with-a-fraction": b"7" * 10_000 + b".5",
    "row-14-10000-digits-of-exponent": b"1e" + b"7" * 10_000,
    "row-16-100000-keys": MANY_KEYS,
    "row-17-high-surrogate": b'"\\ud800"',
    "row-17-low-surrogate": b'"\\udc00"',
    "row-17-surrogate-in-a-key": b'{"\\ud800":1}',
    "row-17-surrogate-as-utf-8": b'"\xed\xa0\x80"',
}


@pytest.mark.parametrize("case", VALUES)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_value_that_nobody_could_read_back_is_refused(site: Site, binding: str, case: str) -> None:
    response = await site.post(binding, framed(binding, with_metadata(VALUES[case])))
    check_refused(binding, response, {-32700, -32602}, {400})


@pytest.mark.parametrize("case", ["row-17-text", "row-17-message-id"])
@pytest.mark.parametrize("operation", ["SendMessage", "SendStreamingMessage"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_text_that_is_no_unicode_is_refused(site: Site, binding: str, operation: str, case: str) -> None:
    params = send("\ud800") if "text" in case else send("hi", messageId="\ud800")
    response = await site.http.send(site.caller(binding).request(operation, params))
    check_refused(binding, response, {-32602}, {400})


@pytest.mark.parametrize("case", ["row-7-one-byte-over"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_body_over_the_limit_is_refused(site: Site, binding: str, case: str) -> None:
    body = whole(binding)
    response = await site.post(binding, body + b" " * (REQUEST_BYTES + 1 - len(body)))
    TOO_LARGE.check(binding, response)


async def test_a_body_of_the_limit_is_taken(site: Site) -> None:
    site.appends = True
    for binding in BINDINGS:
        body = whole(binding)
        assert (await site.post(binding, body + b" " * (REQUEST_BYTES - len(body)))).status_code == 200


@pytest.mark.parametrize("case", ["row-7-only-said", "row-7-expected"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_length_over_the_limit_is_refused_before_the_body_comes(site: Site, binding: str, case: str) -> None:
    headers = [f"Content-Length: {REQUEST_BYTES + 1}", *(["Expect: 100-continue"] if "expected" in case else [])]
    (answer,) = await site.converse(site.head(f"POST {PATHS[binding]}", *headers), half_close=True)
    assert 413 == answer.status


@pytest.mark.parametrize("case", ["row-8-one-chunk", "row-8-many-chunks"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_body_that_grows_over_the_limit_is_cut_off(site: Site, binding: str, case: str) -> None:
    size = 2 * REQUEST_BYTES if "one" in case else 65_536
    chunk = b"%x\r\n" % size + b" " * size + b"\r\n"
    head = site.head(f"POST {PATHS[binding]}", "Transfer-Encoding: chunked")
    (answer,) = await site.converse(head, *[chunk] * (4 * REQUEST_BYTES // size))
    assert 413 == answer.status


SMUGGLED = b"GET /tasks/smuggled HTTP/1.1\r\nHost: x\r\nA2A-Version: 1.0\r\n\r\n"
FRAMINGS: dict[str, tuple[list[str], bytes]] = {
    "row-10-both": (["Content-Length: 5", "Transfer-Encoding: chunked"], b"0\r\n\r\n"),
    "row-10-both-the-other-way": (["Transfer-Encoding: chunked", "Content-Length: 5"], b"0\r\n\r\n"),
    "row-10-two-lengths": (["Content-Length: 0", "Content-Length: 40"], b""),
    "row-10-lengths-in-one": (["Content-Length: 0, 40"], b""),
    "row-10-negative-length": (["Content-Length: -1"], b""),
    "row-10-signed-length": (["Content-Length: +5"], b"{    "),
    "row-10-length-in-hex": (["Content-Length: 0x5"], b"{    "),
    "row-10-length-over-64-bits": (["Content-Length: 18446744073709551617"], b"{"),
    "row-10-unknown-coding": (["Transfer-Encoding: xchunked"], b"0\r\n\r\n"),
    "row-10-chunked-and-then-another": (["Transfer-Encoding: chunked, identity"], b"0\r\n\r\n"),
    "row-10-two-codings": (["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], b"0\r\n\r\n"),
    "row-10-space-before-the-colon": (["Transfer-Encoding : chunked"], b"0\r\n\r\n"),
    "row-10-folded": (["Transfer-Encoding:\r\n chunked"], b"0\r\n\r\n"),
    "row-10-chunk-without-a-size": (["Transfer-Encoding: chunked"], b"\r\n{}\r\n"),
    "row-10-negative-chunk": (["Transfer-Encoding: chunked"], b"-1\r\n{}\r\n0\r\n\r\n"),
    "row-10-chunk-in-0x": (["Transfer-Encoding: chunked"], b"0x2\r\n{}\r\n0\r\n\r\n"),
    "row-10-chunk-over-64-bits": (["Transfer-Encoding: chunked"], b"10000000000000001\r\n{}\r\n0\r\n\r\n"),
    "row-10-chunk-longer-than-it-says": (["Transfer-Encoding: chunked"], b"1\r\n{}}}}\r\n0\r\n\r\n"),
    "row-10-null-in-a-header": (["X: a\0b", "Content-Length: 0"], b""),
    "row-10-line-feed-in-a-header": (["X: a\nTransfer-Encoding: chunked", "Content-Length: 5"], b"0\r\n\r\n"),
    "row-10-carriage-return-in-a-header": (["X: a\rContent-Length: 5", "Content-Length: 0"], b""),
}


@pytest.mark.parametrize("case", FRAMINGS)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_body_whose_end_is_open_to_doubt_ends_the_connection(site: Site, binding: str, case: str) -> None:
    headers, body = FRAMINGS[case]
    answers = await site.converse(site.head(f"POST {PATHS[binding]}", *headers) + body + SMUGGLED, half_close=True)
    assert [400] == [answer.status for answer in answers]
    assert b"smuggled" not in answers[0].body


ENCODED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "row-11-gzip-bomb": ("gzip", lambda body: gzip.compress(body + b" " * 50_000_000, 1)),
    "row-11-deflate": ("deflate", zlib.compress),
    "row-11-capitals": ("GZIP", gzip.compress),
    "row-11-twice": ("gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
    "row-11-said-only": ("br", lambda body: body),
}


@pytest.mark.parametrize("case", ENCODED)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_compressed_body_is_refused_and_not_opened(site: Site, binding: str, case: str) -> None:
    encoding, compress = ENCODED[case]
    COMPRESSED.check(binding, await site.post(binding, compress(whole(binding)), content_encoding=encoding))


@pytest.mark.parametrize("case", ["row-19-keys-of-other-languages"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_names_that_mean_something_elsewhere_are_plain_data(site: Site, binding: str, case: str) -> None:
    site.appends = True
    odd = {"__proto__": {"admin": True}, "__class__": "x", "constructor": {"prototype": 1}, "$ref": "#", "": 0}
    task = (await site.caller(binding).call("SendMessage", send({"data": odd}, metadata=odd)))["task"]
    shown = await site.caller(binding).call("GetTask", {"id": task["id"]})
    (said,) = shown["history"]
    assert (odd, odd) == (said["metadata"], said["parts"][0]["data"])


VERBS: dict[str, tuple[str, str, str]] = {
    "row-20-get-of-the-endpoint": ("GET", "/", "POST"),
    "row-20-get-of-an-agent-s-endpoint": ("GET", "/agents/echo/", "POST"),
    "row-20-delete-of-the-endpoint": ("DELETE", "/", "POST"),
    "row-20-put-of-a-message": ("PUT", "/message:send", "POST"),
    "row-20-get-of-a-message": ("GET", "/message:stream", "POST"),
    "row-20-patch-of-a-task": ("PATCH", "/tasks/x", "GET"),
    "row-20-post-of-a-task": ("POST", "/tasks/x", "GET"),
    "row-20-get-of-a-cancel": ("GET", "/tasks/x:cancel", "POST"),
    "row-20-delete-of-a-subscription": ("DELETE", "/tasks/x:subscribe", "GET, POST"),
    "row-20-put-of-a-webhook": ("PUT", "/tasks/x/pushNotificationConfigs/y", "GET, DELETE"),
    "row-20-trace": ("TRACE", "/tasks", "GET"),
}


@pytest.mark.parametrize("case", VERBS)
async def test_another_verb_than_the_path_has_is_refused_and_the_right_one_named(site: Site, case: str) -> None:
    verb, path, allowed = VERBS[case]
    response = await site.http.request(verb, path, headers={"A2A-Version": "1.0"})
    assert (405, allowed) == (response.status_code, response.headers["allow"])


HUGE: dict[str, tuple[str, list[str]]] = {
    "row-22-64-kb-of-path": ("/tasks/" + "x" * 65_536, []),
    "row-22-64-kb-of-query": ("/tasks?contextId=" + "x" * 65_536, []),
    "row-22-64-kb-of-parameters": ("/tasks?" + "a=b&" * 16_384, []),
    "row-22-32-kb-header": ("/tasks", ["X-Long: " + "x" * 32_768]),
    "row-22-32-kb-name": ("/tasks", ["x" * 32_768 + ": y"]),
    "row-22-500-headers": ("/tasks", [f"X-{number}: y" for number in range(500)]),
}


@pytest.mark.parametrize("case", HUGE)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_head_that_is_too_large_is_refused(site: Site, binding: str, case: str) -> None:
    path, headers = HUGE[case]
    if binding == JSONRPC:
        path = path.replace("/tasks/", "/?x=").replace("/tasks", "/")
    verb = "POST" if binding == JSONRPC else "GET"
    (answer,) = await site.converse(site.head(f"{verb} {path}", *headers, "Connection: close"))
    assert answer.status in {414, 431}
