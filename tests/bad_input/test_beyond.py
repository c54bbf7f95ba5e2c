"""Bad input that is on nobody's list: HTTP and gRPC bent in ways that servers have been broken by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from grpc import StatusCode, aio

from tests.bad_input.rows import NOT_FOUND, PARAMS, with_header
from tests.bad_input.site import REQUEST_BYTES, Site
from tests.interop.grpc_wire import channel
from tests.interop.wire import BINDINGS, HTTP_JSON, JSONRPC, send

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.asyncio(loop_scope="session")]

PATHS = {JSONRPC: "/", HTTP_JSON: "/message:send"}
JSON = {"A2A-Version": "1.0", "Content-Type": "application/json"}
UNKNOWN = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"


def body(binding: str, text: str = "hi") -> bytes:
    """A good body."""
    params = send(text)
    whole = {"jsonrpc": "2.0", "id": 7, "method": "SendMessage", "params": params} if binding == JSONRPC else params
    return json.dumps(whole).encode()


def request(site: Site, binding: str, content: bytes, *headers: str) -> bytes:
    """A good request, as bytes."""
    length = f"Content-Length: {len(content)}"
    return site.head(f"POST {PATHS[binding]}", "Content-Type: application/json", length, *headers) + content


# --- HTTP -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binding", BINDINGS)
async def test_requests_in_a_row_are_answered_in_order(site: Site, binding: str) -> None:
    site.appends = True
    sent = [request(site, binding, body(binding, f"number {number}")) for number in range(20)]
    sent.append(request(site, binding, body(binding, "number 20"), "Connection: close"))
    answers = await site.converse(b"".join(sent))
    assert [200] * 21 == [answer.status for answer in answers]
    for number, answer in enumerate(answers):
        assert f'"number {number}"' in answer.body.decode()


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_bad_request_in_a_row_ends_the_row(site: Site, binding: str) -> None:
    """The good one before it may lose its answer with the connection, and what is behind it is not read."""
    site.appends = True
    good = request(site, binding, body(binding))
    answers = await site.converse(good + b"GARBAGE\r\n\r\n" + request(site, binding, body(binding, "not read")))
    assert [answer.status for answer in answers] in ([], [400], [200], [200, 400])
    assert not [answer for answer in answers if b"not read" in answer.body]


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_request_in_many_pieces_is_one_request(site: Site, binding: str, pieces: int) -> None:
    site.appends = True
    whole = request(site, binding, body(binding), "Connection: close")
    (answer,) = await site.converse(*(whole[at : at + pieces] for at in range(0, len(whole), pieces)))
    assert 200 == answer.status


@pytest.mark.parametrize("binding", BINDINGS)
async def test_who_asks_first_is_told_to_go_on_once(site: Site, binding: str) -> None:
    site.appends = True
    whole = request(site, binding, body(binding), "Expect: 100-continue", "Connection: close")
    answers = await site.converse(whole)
    assert 200 == answers[-1].status
    (refused,) = await site.converse(request(site, binding, b"", "Expect: the-moon", "Connection: close"))
    assert refused.status in {200, 400, 417}


@pytest.mark.parametrize("binding", BINDINGS)
async def test_trailers_and_extensions_of_chunks_are_no_headers(site: Site, binding: str) -> None:
    """A credential or a version behind the body came too late to count."""
    content = body(binding)
    chunked = b'%x;ext="x"\r\n%s\r\n0\r\n' % (len(content), content)
    trailers = f"Authorization: Bearer {site.token()}\r\nA2A-Version: 1.0\r\nX-Trailer: x\r\n\r\n".encode()
    bare = f"POST {PATHS[binding]} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
    head = bare + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n"
    answers = await site.converse(head + chunked + trailers)
    assert [401] == [answer.status for answer in answers]
    site.appends = True
    named = site.head(
        f"POST {PATHS[binding]}", "Content-Type: application/json", "Transfer-Encoding: chunked", "Connection: close"
    )
    answers = await site.converse(named + chunked + b"A2A-Version: 9.9\r\n\r\n")
    assert [200] == [answer.status for answer in answers]


@pytest.mark.parametrize("verb", ["HEAD", "OPTIONS"])
async def test_head_and_options_do_nothing(site: Site, verb: str) -> None:
    for path in ("/", "/message:send", "/message:stream", "/tasks", f"/tasks/{UNKNOWN}", f"/tasks/{UNKNOWN}:cancel"):
        response = await site.http.request(verb, path, headers=JSON)
        assert 405 == response.status_code, path
        assert response.headers["allow"]
        assert verb != "HEAD" or not response.content


@pytest.mark.parametrize("verb", ["HEAD", "GET", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/.well-known/agent-card.json", "/livez", "/readyz"])
async def test_what_everybody_may_see_is_all_that_there_is_to_it(site: Site, verb: str, path: str) -> None:
    head = f"{verb} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode()
    (answer,) = await site.converse(head)
    assert answer.status in {200, 405}
    if verb == "HEAD":
        assert not answer.body, "nothing may follow the head, or it would be taken for the next answer"


@pytest.mark.parametrize("line", ["GET /tasks HTTP/9.9", "GET /tasks HTTP/1.0", "GET /tasks", "get /tasks HTTP/1.1"])
async def test_another_http_is_answered_or_refused(site: Site, line: str) -> None:
    head = site.head("x", "Connection: close").split(b"\r\n", 1)[1]
    answers = await site.converse(line.encode() + b"\r\n" + head)
    assert [answer.status for answer in answers] in ([200], [400])


@pytest.mark.parametrize(
    "target", ["http://evil.example/tasks", "*", "tasks", "//evil.example/tasks", "/tasks#x", "/\x80\xff"]
)
async def test_a_target_of_another_form_is_no_task_and_no_other_host(site: Site, target: str) -> None:
    (answer,) = await site.converse(site.head(f"GET {target}", "Connection: close"))
    assert answer.status in {200, 400, 403, 404}
    assert b"evil" not in answer.body


# --- paths ------------------------------------------------------------------------------------------------------------

WAYS = [
    "/tasks/%2e%2e",
    "/tasks/%2e%2e/message:send",
    "/tasks/%2E%2E%2F%2E%2E%2Fetc%2Fpasswd",
    "/tasks/..",
    "/tasks/./x",
    "/tasks//x",
    "//tasks/x",
    "/tasks/x;jsessionid=1",
    "/tasks;a=b/x",
    "/tasks/x%00",
    "/tasks/%",
    "/tasks/%zz",
    "/tasks/%c0%ae%c0%ae",
    "/tasks/%ff",
    "/tasks/%ed%a0%80",
    "/tasks/%252e%252e",
    "/tasks/x%3Acancel",
    "/tasks/x%3Fa=b",
    "/tasks/x%23",
    "/tasks/x%2FpushNotificationConfigs",
    "/tasks/x/",
    "/tasks/x/pushNotificationConfigs/",
    "/tasks/x/pushNotificationConfigs/a/b",
    "/tasks/x/pushNotificationConfigs/%2e%2e",
    "/TASKS/x",
    "/agents/%2e%2e/tasks/x",
    "/agents/../tasks/x",
    "/agents//tasks/x",
    "/agents/scripted%00/tasks/x",
    "/agents/SCRIPTED/tasks/x",
    "/agents/*/tasks/x",
    "/agents/scripted.echo/tasks/x",
    "/agents/" + "a" * 2000 + "/tasks/x",
    "/agents/scripted",
    "/agents",
    "/agents/",
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[:40])
async def test_a_path_in_an_odd_spelling_leads_nowhere(site: Site, way: str) -> None:
    (answer,) = await site.converse(site.head(f"GET {way}", "Connection: close"))
    assert answer.status in {400, 403, 404, 405}
    assert answer.json()["error"]["details"][0]["reason"]


@pytest.mark.parametrize("spelled", ["%74", "%2D"])
async def test_an_id_may_be_percent_encoded_and_is_decoded_once(site: Site, spelled: str) -> None:
    task = await site.task()
    letter = bytes.fromhex(spelled[1:]).decode()
    once = task["id"].replace(letter, spelled)
    assert 200 == (await site.http.get(f"{site.gateway.url}/tasks/{once}", headers=JSON)).status_code
    (answer,) = await site.converse(site.head(f"GET /tasks/{quote(once)}", "Connection: close"))
    assert 404 == answer.status


# --- queries ----------------------------------------------------------------------------------------------------------


async def test_a_parameter_that_comes_twice_counts_once_and_the_path_wins(site: Site) -> None:
    task = await site.task()
    shown = await site.http.get(f"/tasks/{task['id']}?id={UNKNOWN}&id=*&tenant=acme", headers=JSON)
    assert task["id"] == shown.json()["id"]
    for twice in ("historyLength=1&historyLength=x", "historyLength=x&historyLength=y"):
        response = await site.http.get(f"/tasks/{task['id']}?{twice}", headers=JSON)
        assert ["historyLength"] == PARAMS.check(HTTP_JSON, response)


QUERIES = [
    "?" + "a" * 4000,
    "?&&&&====&",
    "?%00=%00",
    "?%ff=%fe",
    "?pageSize=%31%30;x",
    "?pageSize=1e1",
    "?pageSize=+5",
    "?pageSize=0x10",
    "?pageSize=1_0",
    "?pageSize= 5",
    "?pageSize[]=5",
    "?pageSize[$gt]=5",
    "?status=TASK_STATE_WORKING' OR 1=1 --",
    "?status=*",
    "?status=99",
    "?contextId=%27;DROP TABLE tasks;--",
    "?contextId=%25",
    "?contextId=*",
    "?pageToken=../../x",
    "?pageToken=%00",
    "?pageToken=" + "A" * 4000,
    "?includeArtifacts=maybe",
    "?__proto__[x]=1",
    "?tenant=",
]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query[:30])
async def test_a_query_of_any_kind_is_answered(site: Site, query: str) -> None:
    target = "/tasks" + query.replace(" ", "%20")
    (answer,) = await site.converse(site.head(f"GET {target}", "Connection: close"))
    assert answer.status in {200, 400}
    if answer.status == 400:
        assert "INVALID_PARAMS" == answer.json()["error"]["details"][0]["reason"]


async def test_a_filter_is_compared_and_no_pattern(site: Site) -> None:
    await site.task()
    for context in ("*", "%", "_", "' OR '1'='1", "c-%", "c-*"):
        listed = await site.caller(HTTP_JSON).call("ListTasks", {"contextId": context})
        assert {context} >= {each["contextId"] for each in listed["tasks"]}


# --- media types ------------------------------------------------------------------------------------------------------

NOT_JSON = [
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain",
    "application/xml",
    "application/protobuf",
    "application/jsonx",
    "application/json, text/plain",
    "application/json\x00",
    "*/*",
    "json",
    "x" * 4000,
]


@pytest.mark.parametrize("media_type", NOT_JSON, ids=lambda media_type: ascii(media_type)[1:30])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_body_that_says_it_is_something_else_is_refused(site: Site, binding: str, media_type: str) -> None:
    """A page of another site can send forms and plain text without being asked (CSRF), and no JSON."""
    content = body(binding)
    length = f"Content-Length: {len(content)}"
    head = site.head(f"POST {PATHS[binding]}", f"Content-Type: {media_type}", length, "Connection: close")
    (answer,) = await site.converse(head + content)
    if "\x00" in media_type:
        assert 400 == answer.status
        return
    assert (200 if binding == JSONRPC else 415) == answer.status
    assert b"UNSUPPORTED_MEDIA_TYPE" in answer.body


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_form_in_json_s_clothes_is_no_json(site: Site, binding: str) -> None:
    for content in (
        b"message=hi&role=ROLE_USER",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nhi\r\n--x--\r\n',
    ):
        response = await site.post(binding, content)
        assert response.json()["error"]


# --- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_member_that_comes_twice_means_the_same_in_both_bindings(site: Site, binding: str) -> None:
    """Refused, or the last one counts; the signature of neither is the first one."""
    site.appends = True
    message = b'"message":{"messageId":"m","role":"ROLE_USER","parts":[{"text":"first"}],"parts":[{"text":"last"}]}'
    params = b"{" + message + b"}"
    content = (
        params if binding == HTTP_JSON else b'{"jsonrpc":"2.0","id":7,"method":"SendMessage","params":' + params + b"}"
    )
    response = await site.post(binding, content)
    assert '"first"' not in response.text


async def test_a_method_that_comes_twice_is_one(site: Site) -> None:
    site.appends = True
    task = await site.task()
    content = f'{{"jsonrpc":"2.0","id":7,"method":"CancelTask","method":"GetTask","params":{{"id":"{task["id"]}"}}}}'
    assert task["id"] in (await site.post(JSONRPC, content.encode())).text


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_version_in_an_odd_place_is_none(site: Site, binding: str) -> None:
    for headers in ({"A2A_Version": "9.9"}, {"X-A2A-Version": "9.9"}, {"A2A-Versions": "9.9"}):
        response = await site.http.send(site.caller(binding).request("GetTask", {"id": UNKNOWN}, headers=headers))
        NOT_FOUND.check(binding, response)


@pytest.mark.parametrize("request_id", ["1.0", "1e400", "-0", "9007199254740993", "1.7976931348623157e308"])
async def test_an_id_that_is_a_number_of_any_kind_comes_back_or_is_refused(site: Site, request_id: str) -> None:
    content = f'{{"jsonrpc":"2.0","id":{request_id},"method":"GetTask","params":{{"id":"x"}}}}'
    shown = await site.post(JSONRPC, content.encode())
    assert f'"id":{request_id},' in shown.text or shown.json()["error"]["code"] in {-32700, -32600, -32602}


async def test_a_body_behind_a_get_is_not_the_next_request(site: Site) -> None:
    smuggled = b"GET /tasks/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    head = site.head("GET /tasks", f"Content-Length: {len(smuggled)}")
    last = site.head("GET /tasks", "Connection: close")
    answers = await site.converse(head + smuggled + last)
    assert [200, 200] == [answer.status for answer in answers]


@pytest.mark.parametrize("binding", BINDINGS)
async def test_answers_to_what_a_client_wrote_have_no_lines_of_its_own(site: Site, binding: str) -> None:
    """What is echoed in headers of an answer: the request's id, and extensions."""
    asked = site.caller(binding).request("GetTask", {"id": UNKNOWN})
    for value in (b"a b", b"x" * 129, b"\xff", b"<script>", b"a\tb"):
        response = await site.http.send(with_header(asked, b"X-Request-Id", value))
        assert value.decode("latin-1") != response.headers["x-request-id"]
        asked.headers.pop("x-request-id")


# --- gRPC -------------------------------------------------------------------------------------------------------------

SERVICE = "/lf.a2a.v1.A2AService/"


async def grpc_call(
    site: Site, method: str, content: bytes, *metadata: tuple[str, str | bytes], **how: Any
) -> StatusCode:
    """How a call of bytes ends."""
    async with channel(site.grpc) as made:
        call: Any = made.unary_unary(SERVICE + method, request_serializer=None, response_deserializer=None)
        sent = (("authorization", f"Bearer {site.token()}"), ("a2a-version", "1.0"), *metadata)
        try:
            await call(content, metadata=sent, timeout=20, **how)
        except aio.AioRpcError as error:
            site.answered.append(f"{error.code()} {error.details()} {error.debug_error_string()}")
            code: StatusCode = error.code()
            return code
        return StatusCode.OK


def _most_bytes(pid: int) -> int:
    """The most memory that a process has ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


MALFORMED = {
    "an unfinished varint": b"\xff\xff\xff\xff",
    "a length beyond the end": b"\x0a\xff\xff\xff\xff\x0f",
    "a group without end": b"\x0b" * 1000,
    "field number zero": b"\x00\x01",
    "wire type 7": b"\x0f\x01",
    "text that is not utf-8": b"\x12\x02\xff\xfe",
    "nested 10,000 deep": b"\x12" + b"\x80\x80\x01" * 1000,
    "json": b'{"id":"x"}',
    "random": bytes(range(256)) * 40,
}


@pytest.mark.parametrize("case", MALFORMED)
@pytest.mark.parametrize("method", ["GetTask", "SendMessage", "ListTasks"])
async def test_a_message_that_is_no_protobuf_is_refused(site: Site, method: str, case: str) -> None:
    assert await grpc_call(site, method, MALFORMED[case]) in {StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND}


async def test_a_message_of_grpc_over_the_limit_is_refused(site: Site) -> None:
    code = await grpc_call(site, "SendMessage", b"\x0a" + b"\x80\x80\x80\x01" + b"x" * 2 * REQUEST_BYTES)
    assert code in {StatusCode.RESOURCE_EXHAUSTED, StatusCode.INVALID_ARGUMENT, StatusCode.OUT_OF_RANGE}


async def test_a_compressed_bomb_over_grpc_is_not_opened(site: Site) -> None:
    """40 MB in 40 KB."""
    from grpc import Compression  # noqa: PLC0415 -- beside its only use

    before = _most_bytes(site.gateway.pid)
    code = await grpc_call(site, "SendMessage", b"\0" * 40_000_000, compression=Compression.Gzip)
    assert _most_bytes(site.gateway.pid) - before < 25_000_000
    assert code in {StatusCode.RESOURCE_EXHAUSTED, StatusCode.INVALID_ARGUMENT, StatusCode.OUT_OF_RANGE}


async def test_methods_and_metadata_that_nobody_knows_change_nothing(site: Site) -> None:
    assert StatusCode.UNIMPLEMENTED == await grpc_call(site, "DropTable", b"")
    assert StatusCode.UNIMPLEMENTED == await grpc_call(site, "gettask", b"")
    odd: list[tuple[str, str | bytes]] = [
        ("nats-rollup", "all"),
        ("x-bin", b"\xff\x00"),
        ("x" * 200, "y"),
        ("grpc-foo", "x"),
        ("idempotency-key", ""),
    ]
    for each in odd:
        assert StatusCode.NOT_FOUND == await grpc_call(site, "GetTask", b"\x12\x01x", each)
    for version in ("9.9", "", "1.0, 9.9"):
        code = await grpc_call(site, "GetTask", b"\x12\x01x", ("a2a-version", version))
        assert code is not StatusCode.OK
