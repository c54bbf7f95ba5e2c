"""The timeline service's API: what operators' tools and the page are shown, over each kind of log."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from a2a_events import Turn, agent, audit, limits
from a2a_events.agents import scripted
from a2a_events.log.jetstream import JetStreamLog
from a2a_events.log.memory import MemoryLog
from a2a_events.model import Task, TaskState
from a2a_events.runtime.commit import commit
from a2a_events.runtime.retention import Retention
from a2a_events.runtime.seal import Seals, Secrets
from a2a_events.services import timeline
from a2a_events.services.timeline import recorded
from a2a_events.settings import Settings, SettingsError
from a2a_events.testing import eventually, in_memory
from a2a_events.timeline import bundle, decide
from a2a_events.timeline.events import PushConfigSet
from a2a_events.timeline.fold import TaskFold
from a2a_events.timeline.record import Writer
from a2a_events.timeline.render import task as render_task
from a2a_events.timeline.revisions import fold_at
from a2a_events.timeline.rows import rows_of
from tests.integration.conftest import StackOf
from tests.integration.stack import Stack
from tests.integration.timelines import frames, got, refused, timeline_service


async def sent(stack: Stack, **script: object) -> str:
    """A task that did what the script says; its id."""
    task = await stack.calls.send({"script": script})
    assert isinstance(task, Task)
    return task.id


async def test_every_revision_is_the_fold_of_its_prefix(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task_id = await sent(stack, chunks=12)
    records = await stack.records(task_id)
    async with timeline_service(stack.log) as http:
        summary = await got(http, f"/api/tasks/{task_id}")
        assert summary["revisions"] == records[-1].header.last_revision
        assert (summary["state"], summary["ended"], summary["agent"]) == ("COMPLETED", True, "scripted")
        for revision in range(1, summary["revisions"] + 1):
            shown = await got(http, f"/api/tasks/{task_id}/at/{revision}")
            fold = fold_at(records, revision)
            assert shown["task"] == msgspec.json.decode(render_task(fold, task_id, {}))
            assert shown["internal"]["phase"] == fold.head.phase.value
            changed = await got(http, f"/api/tasks/{task_id}/difference", to=revision)
            assert (changed["fromRevision"], changed["toRevision"]) == (revision - 1, revision)
        everything = await got(http, f"/api/tasks/{task_id}/difference", **{"from": 0})
        assert [len(artifact["parts"]) for artifact in everything["artifacts"]] == [12]


async def test_a_brief_task_says_what_was_left_out(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task_id = await sent(stack, chunks=12)
    async with timeline_service(stack.log) as http:
        revisions = (await got(http, f"/api/tasks/{task_id}"))["revisions"]
        shown = await got(http, f"/api/tasks/{task_id}/at/{revisions}", newest=5)
        [artifact] = shown["task"]["artifacts"]
        assert [part["text"][:6] for part in artifact["parts"]] == [f"{number:06d}" for number in range(7, 12)]
        assert shown["leftOut"] == {"history": 0, "artifacts": {"artifact-0": 7}}


async def test_rows_are_filtered_paged_and_found(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task_id = await sent(stack, chunks=40, fail=True)
    expected = [row for record in await stack.records(task_id) for row in rows_of(record)]
    async with timeline_service(stack.log) as http:
        rows = f"/api/tasks/{task_id}/rows"
        whole = await got(http, rows)
        assert whole["rows"] == msgspec.json.decode(msgspec.json.encode(expected))
        paged = [
            row for at in range(0, len(expected), 7) for row in (await got(http, rows, offset=at, limit=7))["rows"]
        ]
        assert paged == whole["rows"]
        chunks = await got(http, rows, kind="artifactUpdate", content="0")
        assert chunks["total"] == 40
        assert not any("event" in row or "preview" in row for row in chunks["rows"])
        compacted = await got(http, rows, compact="true")
        [run] = [row for row in compacted["rows"] if "count" in row]
        assert (run["count"], run["last_revision"] - run["revision"]) == (40, 39)
        found = await got(http, rows, compact="true", around=run["revision"] + 20, limit=1)
        assert compacted["rows"][found["index"]] == run
        assert [row["state"] for row in (await got(http, rows, state="failed"))["rows"]] == ["FAILED"]
        assert (await got(http, rows, text="000007 "))["total"] == 1
        assert (await got(http, rows, attempt=2))["total"] == 0
        assert (await got(http, rows, writer="gateway"))["total"] == 1
        between = await got(http, rows, content="20", **{"from": 3, "to": 5})
        assert [row["revision"] for row in between["rows"]] == [3, 4, 5]
        assert all(len(row["preview"]) == 20 for row in between["rows"])


async def test_events_come_as_they_are_appended_until_the_task_has_ended(serve: StackOf) -> None:
    goes_on = asyncio.Event()

    @agent(name="patient")
    async def patient(turn: Turn) -> None:
        await turn.artifact("first", name="one")
        await goes_on.wait()
        await turn.artifact("second", name="two")

    stack = await serve(patient)
    await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    await eventually(lambda: _holds(stack, task.id, "A"), what="a first artifact")
    async with (
        timeline_service(stack.log) as http,
        http.stream("GET", f"/api/tasks/{task.id}/events", params={"after": 1}) as response,
    ):
        seen: list[int] = []
        async for frame in frames(response):
            if frame.get("event") == "end":
                break
            seen.append(int(frame["id"]))
            assert frame["data"]["revision"] == seen[-1]
            goes_on.set()  # not before something was shown
        newest = (await got(http, f"/api/tasks/{task.id}"))["revisions"]
        assert seen == list(range(2, newest + 1))


async def _holds(stack: Stack, task_id: str, kind: str) -> bool:
    return kind in await stack.kinds(task_id)


async def test_a_stream_resumes_after_the_last_event_that_a_browser_saw(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task_id = await sent(stack, chunks=5)
    async with (
        timeline_service(stack.log) as http,
        http.stream("GET", f"/api/tasks/{task_id}/events?after=1", headers={"last-event-id": "6"}) as response,
    ):
        ids = [frame["id"] async for frame in frames(response) if "id" in frame]
        assert ids[0] == "7"
        assert await refused(http, f"/api/tasks/{task_id}/events", 409, after=1000)


async def test_what_is_kept_of_a_timeline_grows_with_it(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task_id = await sent(stack, chunks=4, inputAt=2)
    async with timeline_service(stack.log) as http:
        before = await got(http, f"/api/tasks/{task_id}")
        assert before["state"] == "INPUT_REQUIRED"
        await stack.calls.send("go on", task_id=task_id)
        after = await got(http, f"/api/tasks/{task_id}")
        assert after["state"] == "COMPLETED"
        records = await stack.records(task_id)
        shown = await got(http, f"/api/tasks/{task_id}/at/{after['revisions']}")
        assert shown["task"] == msgspec.json.decode(render_task(TaskFold.of(records), task_id, {}))


async def test_nothing_is_shown_of_a_task_that_was_removed_though_it_was_looked_at_before(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task_id = await sent(stack, chunks=4)
    assert isinstance(stack.log, JetStreamLog | MemoryLog)
    async with timeline_service(stack.log) as looked, timeline_service(stack.log) as fresh:
        newest = (await got(looked, f"/api/tasks/{task_id}"))["revisions"]
        retention = Retention(stack.log, Writer("retention", "test"), older_than_seconds=0.0, grace_seconds=0.0)
        assert (await retention.run()).tasks == 1
        monkeypatch.setattr(limits, "REMOVAL_GRACE_SECONDS", 0.0)
        for http in (looked, fresh):
            for path in ("", f"/at/{newest}", "/at/1", "/rows", "/difference", "/events", "/bundle"):
                assert await refused(http, f"/api/tasks/{task_id}{path}", 410) == "The task was removed"


async def test_an_export_is_a_bundle_that_folds_to_the_same_task(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task_id = await sent(stack, chunks=5, bytes=300)
    async with timeline_service(stack.log) as http:
        response = await http.get(f"/api/tasks/{task_id}/bundle")
        assert f'filename="{task_id}.jsonl"' in response.headers["content-disposition"]
        exported = bundle.read(response.content)
        records = await stack.records(task_id)
        assert [record.payload for record in exported.records] == [record.payload for record in records]
        bare = bundle.read((await http.get(f"/api/tasks/{task_id}/bundle?redact=content")).content)
        assert bare.redacted
        assert b"xxxxxx" not in b"".join(record.payload for record in bare.records)
        assert "redact" in await refused(http, f"/api/tasks/{task_id}/bundle", 400, redact="some")


async def test_a_fork_begins_where_it_was_asked_for(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task_id = await sent(stack, chunks=6, fail=True)
    async with timeline_service(stack.log) as http:
        newest = (await got(http, f"/api/tasks/{task_id}"))["revisions"]
        ended = await http.post(f"/api/tasks/{task_id}/fork", json={"revision": newest})
        assert ended.status_code == 409
        assert "had ended" in ended.json()["detail"]
        forked = await http.post(f"/api/tasks/{task_id}/fork", json={"revision": 1})
        assert forked.status_code == 201
        new = forked.json()["taskId"]
        assert (await got(http, f"/api/tasks/{new}"))["origin"] == {"taskId": task_id, "revision": 1}
        await eventually(lambda: _ended(http, new), what="the end of the fork")
        for body in (b"", b"[]", b'{"revision": "1"}', b'{"revision": 1, "more": 2}'):
            bad = await http.post(
                f"/api/tasks/{task_id}/fork", content=body, headers={"content-type": "application/json"}
            )
            assert bad.status_code == 400


async def _ended(http: httpx.AsyncClient, task_id: str) -> bool:
    return bool((await got(http, f"/api/tasks/{task_id}"))["ended"])


async def test_the_list_shows_every_task_and_what_changes(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    done, failed = await sent(stack, chunks=1), await sent(stack, chunks=1, fail=True)
    async with timeline_service(stack.log) as http:
        page = await got(http, "/api/tasks")
        assert {task["taskId"]: task["state"] for task in page["tasks"]} == {done: "COMPLETED", failed: "FAILED"}
        assert [task["taskId"] for task in (await got(http, "/api/tasks", failed="true"))["tasks"]] == [failed]
        assert [task["taskId"] for task in (await got(http, "/api/tasks", text=done[-8:]))["tasks"]] == [done]
        first = await got(http, "/api/tasks", limit=1)
        second = await got(http, "/api/tasks", limit=1, after=first["after"])
        assert {first["tasks"][0]["taskId"], second["tasks"][0]["taskId"]} == {done, failed}
        async with http.stream("GET", "/api/tasks/events", params={"after": page["mark"]}) as response:
            new = await sent(stack, chunks=1)
            async for frame in frames(response):
                assert frame["data"]["taskId"] == new
                if frame["data"]["state"] == "COMPLETED":
                    break
        async with http.stream("GET", "/api/tasks/events", params={"after": "another.12"}) as response:
            assert [frame["event"] async for frame in frames(response)] == ["reset"]


async def test_reading_needs_no_worker(serve: StackOf) -> None:
    @agent(name="absent")
    async def absent(turn: Turn) -> None:
        turn.fail("never runs")

    stack = await serve(absent)
    task = await stack.calls.send_task("hello", immediately=True)
    async with timeline_service(stack.log) as http:
        summary = await got(http, f"/api/tasks/{task.id}")
        assert (summary["state"], summary["phase"]) == ("SUBMITTED", "queued")
        why = await got(http, f"/api/tasks/{task.id}/why")
        assert why["agent"] == "absent"
        assert why["why"]
        assert await stack.kinds(task.id) == "s"


async def test_bad_input_gets_a_clear_sentence(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task_id = await sent(stack, chunks=1)
    async with timeline_service(stack.log) as http:
        task = f"/api/tasks/{task_id}"
        assert "not found" in await refused(http, "/api/tasks/t1-main-0-AAAAAAAAAAAAAAAAAAAAAA", 404)
        assert "not found" in await refused(http, "/api/tasks/..%2F..%2Fetc", 404)
        assert "revisions 1 to" in await refused(http, f"{task}/at/1000", 404)
        assert "whole number" in await refused(http, f"{task}/at/x", 400)
        assert "whole number" in await refused(http, f"{task}/at/{'9' * 30}", 400)
        assert "no parameter sort" in await refused(http, f"{task}/rows", 400, sort="up")
        assert "true or false" in await refused(http, f"{task}/rows", 400, compact="maybe")
        assert "comes after" in await refused(http, f"{task}/difference", 400, **{"from": 3, "to": 2})
        assert "states are" in await refused(http, "/api/tasks", 400, state="BROKEN")
        assert "page before" in await refused(http, "/api/tasks", 400, after="x")
        assert "nothing at this path" in await refused(http, f"{task}/nothing", 404)
        wrong = await http.get(f"{task}/fork")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


async def test_bundles_are_shown_without_a_server(serve: StackOf, tmp_path: Path) -> None:
    stack = await serve(scripted)
    await stack.worker()
    paths = []
    for number in range(2):
        task_id = await sent(stack, chunks=3 + number)
        async with timeline_service(stack.log) as http:
            path = tmp_path / f"{number}.jsonl"
            path.write_bytes((await http.get(f"/api/tasks/{task_id}/bundle")).content)
            paths.append((task_id, path))
    log = await recorded([path for _, path in paths])
    async with timeline_service(log) as http:
        assert {task["taskId"] for task in (await got(http, "/api/tasks"))["tasks"]} == {one for one, _ in paths}
        for task_id, path in paths:
            first = bundle.read(path.read_bytes())
            shown = await got(http, f"/api/tasks/{task_id}/at/{first.revisions}")
            assert shown["task"] == msgspec.json.decode(render_task(TaskFold.of(first.records), task_id, {}))
            assert shown["task"]["status"]["state"] == TaskState.COMPLETED.value
    await log.close()
    with pytest.raises(SettingsError, match="another file holds already"):
        await recorded([paths[0][1], paths[0][1]])
    paths[0][1].write_bytes(paths[0][1].read_bytes()[:-30])
    with pytest.raises(SettingsError, match="was cut"):
        await recorded([paths[0][1]])


JSON = "application/json"


@pytest.fixture
async def page_alone() -> AsyncIterator[httpx.AsyncClient]:
    """A service of one task, that asks for no token."""
    log = MemoryLog()
    async with in_memory(scripted, log=log) as calls:
        task = await calls.send_task({"script": {"chunks": 1}})
        async with timeline_service(log) as http:
            http.headers["x-task"] = task.id  # for who asks
            yield http


Asked = Sequence[tuple[str, str | bytes]]


async def status(http: httpx.AsyncClient, headers: Asked, method: str = "GET", path: str = "") -> int:
    """Of an answer to a request with these headers; path: below ``/api`` of the task, unless it is absolute."""
    there = path if path.startswith("/") else f"/api/tasks/{http.headers['x-task']}{path and '/'}{path}"
    body = b'{"revision": 1}' if method == "POST" else None
    raw = [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers]
    response = await http.request(method, there, headers=raw, content=body)
    assert response.status_code < 500, response.text
    return response.status_code


@pytest.mark.parametrize(
    "name",
    [
        "evil.example",
        "evil.example:8001",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.1@evil.example",
        "127.0.0.1:80@evil.example",
        "localhost.",
        "0.0.0.0",  # noqa: S104 -- refused
        "[::]",
        "[::1",
        "",
    ],
)
async def test_another_name_is_not_answered(page_alone: httpx.AsyncClient, name: str) -> None:
    """A site can make its own name point to loopback (DNS rebinding)."""
    for path in ("", "why", "bundle", "events", "/", "/static/main.js", "/api/tasks", "/nothing"):
        assert await status(page_alone, [("host", name)], path=path) == 403, path
    assert await status(page_alone, [("host", name), ("content-type", JSON)], "POST", "fork") == 403


async def test_the_names_of_loopback_are(page_alone: httpx.AsyncClient) -> None:
    for name in ("localhost", "localhost:9000", "LOCALHOST:9000", "[::1]:9000", "127.0.0.1", "127.8.0.1:80"):
        assert await status(page_alone, [("host", name)]) == 200, name


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_pages_of_other_sites_read_nothing(page_alone: httpx.AsyncClient, site: str) -> None:
    """Of the same site are all the other ports of this machine."""
    sent_by = [("sec-fetch-site", site)]
    for path in ("", "rows", "bundle", "events", "/api/tasks", "/api/tasks/events", "/api/about"):
        assert await status(page_alone, sent_by, path=path) == 403, path
    assert (
        await status(page_alone, sent_by, path=f"/tasks/{page_alone.headers['x-task']}@1") == 200
    )  # a link leads here
    for own in ("same-origin", "none"):
        assert await status(page_alone, [("sec-fetch-site", own)]) == 200


@pytest.mark.parametrize(
    "refused",
    [
        [],
        [("content-type", "text/plain")],
        [("content-type", "text/plain; application/json")],
        [("content-type", "application/x-www-form-urlencoded")],
        [("content-type", "multipart/form-data; boundary=application/json")],
        [("content-type", JSON), ("origin", "https://evil.example")],
        [("content-type", JSON), ("origin", "null")],
        [("content-type", JSON), ("origin", "http://[")],
        [("content-type", JSON), ("origin", "http://localhost:1")],
        [("content-type", JSON), ("sec-fetch-site", "cross-site")],
        [("content-type", JSON), ("sec-fetch-site", "same-site")],
    ],
)
async def test_no_other_site_can_fork(page_alone: httpx.AsyncClient, refused: list[tuple[str, str]]) -> None:
    assert await status(page_alone, refused, "POST", "fork") in {403, 415}
    assert (await got(page_alone, "/api/tasks"))["total"] == 1


async def test_programs_and_the_page_can_fork(page_alone: httpx.AsyncClient) -> None:
    own = f"http://{page_alone.base_url.host}:{page_alone.base_url.port}"
    assert await status(page_alone, [("content-type", JSON)], "POST", "fork") == 201
    assert (
        await status(page_alone, [("content-type", f"{JSON}; charset=utf-8"), ("origin", own)], "POST", "fork") == 201
    )


async def test_no_other_origin_is_let_in_by_cors(page_alone: httpx.AsyncClient) -> None:
    preflight = {
        "origin": "https://evil.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    for method, headers in (("OPTIONS", preflight), ("GET", {"origin": "https://evil.example"})):
        answer = await page_alone.request(method, f"/api/tasks/{page_alone.headers['x-task']}/rows", headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_every_answer_says_what_a_browser_may_do_with_it(page_alone: httpx.AsyncClient) -> None:
    task = f"/api/tasks/{page_alone.headers['x-task']}"
    paths = ("/", "/static/main.js", "/nothing", task, f"{task}/bundle", f"{task}/events", f"{task}/at/x", "/livez")
    for path in paths:
        answer = await page_alone.get(path)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"), path
        assert not {"unsafe", "data:", "http:", "*"} & set(re.findall(r"unsafe|data:|http:|\*", policy))
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    for path in (task, f"{task}/bundle", f"{task}/events"):
        assert (await page_alone.get(path)).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ["../api.py", "..%2Fapi.py", "%2e%2e/page.py", "..%5Cpage.py", ".", "", "main.js%00"])
async def test_only_files_of_the_page_are_served(page_alone: httpx.AsyncClient, name: str) -> None:
    assert await status(page_alone, [], path=f"/static/{name}") == 404


async def test_secrets_of_webhooks_are_shown_nowhere(serve: StackOf) -> None:
    @agent(name="brief")
    async def brief(turn: Turn) -> None:
        turn.complete("done")

    stack = await serve(brief)
    task = await stack.calls.send_task("hello", immediately=True)
    ref, fold = stack.ref(task.id), TaskFold.of(await stack.records(task.id))
    sealed = await Seals(stack.log).seal(Secrets("s3cret", "t0ken"), task.id, "hook")
    hook = PushConfigSet(id="hook", url="https://hooks.example.com/a", sealed=sealed)
    await commit(
        stack.log,
        Writer("gateway", "gateway-1"),
        ref,
        fold,
        lambda: decide.set_webhook(fold.head, hook, fold.head.time),
    )
    await stack.worker()
    await eventually(lambda: _holds(stack, task.id, "e"), what="the end of the turn")
    async with timeline_service(stack.log) as http:
        newest = (await got(http, f"/api/tasks/{task.id}"))["revisions"]
        shown = {}
        for path in (
            "", "/rows", f"/at/{newest}", "/difference?from=0", "/events", "/bundle", "/bundle?redact=content", "/why"
        ):  # fmt: skip
            shown[path] = (await http.get(f"/api/tasks/{task.id}{path}")).text
        assert "hooks.example.com" in shown["/rows"]
        assert "hooks.example.com" in shown["/bundle"]
        for secret in (sealed, "s3cret", "t0ken"):
            assert [path for path, text in shown.items() if secret in text] == []


async def test_with_a_token_nothing_is_shown_without_it(serve: StackOf) -> None:
    stack = await serve(scripted)
    async with timeline_service(stack.log, timeline_token="secret-1") as http:
        for path in ("/", "/api/tasks", "/api/about", "/static/main.js", "/tasks/x@1"):
            bare = await http.get(path)
            assert bare.status_code == 401
            assert bare.headers["www-authenticate"].startswith("Basic")
            assert (await http.get(path, auth=("anybody", "secret-2"))).status_code == 401
            assert (await http.get(path, headers={"authorization": "Bearer secret"})).status_code == 401
            for wrong in (
                "Basic %%%",
                "Basic",
                "Bearer",
                "Digest secret-1",
                "secret-1",
                b"Basic \xff\xfe",
                b"Bearer \xff",
            ):
                assert await status(http, [("authorization", wrong)], path=path) == 401, wrong
            assert (await http.get(path, auth=("anybody", "secret-1"))).status_code == 200
            assert (await http.get(path, headers={"authorization": "Bearer secret-1"})).status_code == 200
        named = await http.get("/", auth=("a", "secret-1"), headers={"host": "timelines.example"})
        assert named.status_code == 200


async def test_who_reads_on_the_page_is_audited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once in a while for each task and for the list; and whoever is not let in."""
    monkeypatch.setattr(audit, "_looks", audit._Looks())
    audit._denials.clear()  # other tests were refused in this second, too
    structlog.reset_defaults()
    log = MemoryLog()
    async with in_memory(scripted, log=log) as calls:
        task = await calls.send_task({"script": {"chunks": 1}})
        with capture_logs() as lines:
            async with timeline_service(log, timeline_token="secret-1") as http:
                for shown in ("secret-2", "secret-1"):
                    http.headers["authorization"] = f"Bearer {shown}"
                    for path in ("", f"/{task.id}", f"/{task.id}/rows", f"/{task.id}/bundle"):
                        await http.get(f"/api/tasks{path}")
    told = [line for line in lines if line["event"] == "audit"]
    assert [line["action"] for line in told] == ["denied"] * 4 + ["seen"] * 2
    assert [(line["what"], line["task_id"]) for line in told[4:]] == [("page tasks", None), ("page tasks", task.id)]
    assert {line["address"] for line in told} == {"127.0.0.1"}
    assert "secret-" not in str(lines)


def test_it_is_not_open_to_everybody_by_mistake() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):  # noqa: S104 -- refused
        with pytest.raises(SettingsError, match="A2A_EVENTS_TIMELINE_TOKEN"):
            timeline.check(Settings(timeline_host=host))
        timeline.check(Settings(timeline_host=host, timeline_token="secret"))
    for host in ("127.0.0.1", "::1", "localhost"):
        timeline.check(Settings(timeline_host=host))
