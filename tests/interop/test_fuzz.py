"""Whatever a client sends, it gets an answer in the protocol's form, soon, and nobody else notices.

A gateway and a worker run as processes over a real nats-server. Requests are drawn from the official schema and broken
in their structure and in their bytes. The fast tests are the same in every run, the slow ones go on searching.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest
from a2a.types import a2a_pb2
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from a2a_events.testing import Deployment
from tests.interop.schema_strategies import NEEDLE, SERVICE, STREAMS, Ids, corrupted, documents, mutated, place, rarely
from tests.interop.wire import BINDINGS, JSONRPC, failure, script, send

pytestmark = [pytest.mark.interop, pytest.mark.processes]

OPERATIONS: Final = [method.name for method in SERVICE.methods]
HANG_SECONDS: Final = 20
"""No request here takes a second; one that takes this long hangs."""
LEAKS: Final = re.compile(r"Traceback|File \"|\.py\b|object at 0x|<class|msgspec|nats:|Error\(|Exception")
"""What only the insides of a program say."""
REFUSALS: Final = frozenset({400, 404, 405, 413, 415})

TOLERATED = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)
"""Drawing whole requests takes its time, and some are large on purpose."""
FAST = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=TOLERATED)
SEARCH = settings(max_examples=2500, deadline=None, suppress_health_check=TOLERATED)


class Site(Struct, frozen=True):
    """A running gateway, and what is known there."""

    http: httpx.Client
    ids: Ids
    deployment: Deployment

    def check_alive(self) -> None:
        """That nothing died, nothing was an internal error, and no content was written into a log."""
        processes = [*self.deployment.gateways, *self.deployment.workers]
        assert all(process.running for process in processes)
        logs = "".join(process.output for process in processes)
        assert '"level":"error"' not in logs, logs[-3000:]
        assert "Traceback" not in logs
        assert NEEDLE not in logs
        answer = self.http.post("/message:send", json=send("still there?"), headers={"A2A-Version": "1.0"})
        assert "TASK_STATE_COMPLETED" == answer.json()["task"]["status"]["state"]


@pytest.fixture(scope="module")
def site(nats_url: str) -> Iterator[Site]:
    """One for all searches, so that each also meets what those before it have left behind."""
    agents = "a2a_events.agents:echo,a2a_events.agents:scripted"
    deployment = Deployment(nats_url, agents=agents, settings={"default_agent": "echo"})
    with asyncio.Runner() as runner:
        runner.run(deployment.__aenter__())
        try:
            with httpx.Client(base_url=deployment.gateways[0].url, timeout=HANG_SECONDS) as http:
                yield Site(http, _ids(http), deployment)
        finally:
            runner.run(deployment.close())


def _ids(http: httpx.Client) -> Ids:
    """Tasks in several states, to be drawn beside those that are not there."""
    made = []
    for asked, agent in [
        (send("done"), ""),
        (send(script(chunks=2, inputAt=1)), "/agents/scripted"),
        (send(script(chunks=2, authAt=1)), "/agents/scripted"),
    ]:
        answer = http.post(f"{agent}/message:send", json=asked, headers={"A2A-Version": "1.0"})
        made.append(answer.json()["task"]["id"])
    return Ids(tasks=(*Ids().tasks, *made, *made))  # twice, because each is of one agent only


class Sent(Struct, frozen=True):
    """One request as bytes."""

    binding: str
    operation: str
    verb: str
    path: str
    headers: dict[str, str]
    content: bytes


# --- what is sent ----------------------------------------------------------------------------------------------------


@st.composite
def requests(draw: st.DrawFn, ids: Ids, binding: str, breaking: str) -> Sent:
    """A request of any operation, whole or broken."""
    operation = draw(st.sampled_from(OPERATIONS))
    asked = documents(SERVICE.methods_by_name[operation].input_type, ids)
    if breaking == "structure":
        asked = mutated(asked)
    agent = draw(st.sampled_from(["", "", "", "/agents/scripted", "/agents/scripted", "/agents/nobody"]))
    headers = draw(_headers(operation))
    document = draw(asked)
    if binding == JSONRPC:
        envelope = {"jsonrpc": "2.0", "id": draw(_request_ids), "method": operation, "params": document}
        if breaking == "structure" and draw(st.booleans()):
            envelope = draw(mutated(st.just(envelope)))
        content = json.dumps(envelope).encode()
        verb, path = "POST", f"{agent}/"
    else:
        verb, path = draw(_address(operation, document if isinstance(document, dict) else {}, ids))
        path = agent + path
        content = json.dumps(document).encode() if verb == "POST" else b""
    if breaking == "bytes":
        content = draw(corrupted(st.just(content)))
    return Sent(binding, operation, verb, path, headers, content)


_request_ids: Final = st.sampled_from([1, "a", "", None, -1, 2**53, "\u2028"])


@st.composite
def _headers(draw: st.DrawFn, operation: str) -> dict[str, str]:
    headers = {"a2a-version": draw(st.sampled_from(["1.0"] * 30 + ["1.0.7", "9.9", "x"]))}
    kinds = ["application/json"] * 6 + ["application/a2a+json", "application/json; charset=utf-8"]
    headers["content-type"] = draw(st.sampled_from(kinds))
    if draw(st.booleans()):
        headers["a2a-extensions"] = draw(
            st.sampled_from(["", ",,", "https://example.com/x", "a" * 3000, "urn:x, urn:y"])
        )
    if operation in STREAMS and draw(rarely(4)):
        headers["last-event-id"] = draw(st.text("0123456789abmain.-", max_size=40) | st.sampled_from(["1.main.0", "~"]))
    return headers


@st.composite
def _address(draw: st.DrawFn, operation: str, document: dict[str, Any], ids: Ids) -> tuple[str, str]:
    """Verb and path of an operation, with what the document has for them, and its other members as a query."""
    at = place(operation)
    verb, path = at.verb, at.path
    rest = dict(document)
    for variable, member in (("{task_id=*}", "taskId"), ("{id=*}", "id")):
        if variable in path:
            given = rest.pop(member, None)
            segment = given if isinstance(given, str) else draw(st.sampled_from(ids.tasks))
            path = path.replace(variable, quote(segment or "none", safe=""))  # without one it is another path
    if draw(rarely(6)):
        path = f"/{quote(draw(st.text(max_size=8)), safe='')}{path}"
    if verb != "POST":
        pairs = [f"{quote(name)}={quote(v if isinstance(v, str) else json.dumps(v))}" for name, v in rest.items()]
        path += "?" + "&".join(pairs)
        if draw(rarely(6)):
            path += draw(
                st.sampled_from(
                    ["&", "&pageSize", "&historyLength=%ff", "&tenant=%00", "&&&=", "&a=%zz", "&pageSize=1&pageSize=2"]
                )
            )
    if draw(rarely(30)):
        verb = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]))
    return verb, path


# --- what comes back -------------------------------------------------------------------------------------------------


def check(site: Site, sent: Sent) -> None:
    """That the answer has the protocol's form, whatever it says."""
    url = site.http.base_url.copy_with(raw_path=sent.path.encode()[:8000])
    request = site.http.build_request(sent.verb, url, headers=sent.headers, content=sent.content)
    response = site.http.send(request, stream=True)
    try:
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            check_frame(sent, first_frame(response))
        else:
            response.read()
            assert not LEAKS.search(response.text), response.text
            check_answer(sent, response)
    finally:
        response.close()


def check_answer(sent: Sent, response: httpx.Response) -> None:
    """That it is an error in its binding's form, or the answer that the schema has for the operation."""
    document = response.json()
    if response.status_code != httpx.codes.OK or (isinstance(document, dict) and "error" in document):
        refused = failure(sent.binding, response)
        assert refused.message
        assert -32603 != refused.code, refused.body
        assert response.status_code in REFUSALS | {200}, refused.body
        return
    if sent.binding == JSONRPC:
        assert {"jsonrpc", "id", "result"} == set(document), document
        document = document["result"]
        operation = json.loads(sent.content)["method"]
    else:
        operation = sent.operation
    conforms(document or {}, SERVICE.methods_by_name[operation].output_type.full_name, operation)


def first_frame(response: httpx.Response) -> dict[str, Any]:
    """What a stream begins with."""
    read = b""
    for chunk in response.iter_bytes():
        read += chunk
        if b"\n\n" in read:
            break
    lines = read.split(b"\n\n")[0].split(b"\n")  # characters that only Python takes for line ends stay in the data
    (data,) = (line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: "))
    document: dict[str, Any] = json.loads(data)
    return document


def check_frame(sent: Sent, frame: dict[str, Any]) -> None:
    """That it is a StreamResponse."""
    if sent.binding == JSONRPC:
        assert {"jsonrpc", "id", "result"} == set(frame), frame
        frame = frame["result"]
    conforms(frame, "lf.a2a.v1.StreamResponse", sent.operation)


def conforms(document: dict[str, Any], name: str, operation: str) -> None:
    """That the official parser knows every member of a document."""
    if name == "google.protobuf.Empty":
        assert {} == document, operation
        return
    made: Message = getattr(a2a_pb2, name.rpartition(".")[2])()
    ParseDict(document, made)


# --- the searches ----------------------------------------------------------------------------------------------------

BREAKING = ["nothing", "structure", "bytes"]


def search(site: Site, binding: str, breaking: str, chosen: settings) -> None:
    """Draw requests and check every answer."""

    @chosen
    @given(requests(site.ids, binding, breaking))
    def every_answer_has_the_protocols_form(sent: Sent) -> None:
        check(site, sent)

    every_answer_has_the_protocols_form()
    site.check_alive()


@pytest.mark.parametrize("breaking", BREAKING)
@pytest.mark.parametrize("binding", BINDINGS)
def test_whatever_is_sent_is_answered_in_the_protocols_form(site: Site, binding: str, breaking: str) -> None:
    search(site, binding, breaking, FAST)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("breaking", BREAKING)
@pytest.mark.parametrize("binding", BINDINGS)
def test_thousands_of_requests_are_answered_in_the_protocols_form(site: Site, binding: str, breaking: str) -> None:
    search(site, binding, breaking, SEARCH)
