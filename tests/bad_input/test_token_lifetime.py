"""Row 80: a stream ends when the credential of whoever reads it does, and goes on with another."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from a2a_events import Turn, agent
from a2a_events.bindings.identity.api_keys import parse, written
from a2a_events.client import Client, bearer
from a2a_events.model import Message, Part, Role, TaskState
from tests.bad_input.test_identity import guarding
from tests.interop.agents import AGENTS
from tests.interop.grpc_wire import GrpcCaller, as_json, channel, refusal
from tests.interop.wire import BINDINGS, Caller, script, send

pytestmark = pytest.mark.integration

WITHIN_SECONDS = 60
"""After the end of the credential (specification of row 80); a steward looks each second."""


@agent(name="mute", replies="either")
async def mute(_turn: Turn) -> None:
    """Says nothing, for as long as it is let."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("operation", ["SendStreamingMessage", "SubscribeToTask"])
async def test_80_a_stream_ends_when_its_token_does_with_a_hint_when_to_come_back(
    nats_url: str, tmp_path: Path, binding: str, operation: str
) -> None:
    async with guarding(nats_url, tmp_path) as guarded, guarded.http() as http:
        caller = Caller(http, binding)
        work = send(script(chunks=100_000, delayMs=50))
        params: Any = work
        if operation == "SubscribeToTask":
            begun = {**work, "configuration": {"returnImmediately": True}}
            params = {"id": (await caller.call("SendMessage", begun, headers=guarded.bearer()))["task"]["id"]}
        expires = int(time.time()) + 3
        request = caller.request(operation, params, headers=guarded.bearer(exp=expires))
        response = await http.send(request, stream=True)
        async with asyncio.timeout(3 + WITHIN_SECONDS):
            text = (await response.aread()).decode()
        assert time.time() >= expires
        assert text.count("data: ") > 1, "it was shown until then"
        last = text.rstrip("\n").split("\n\n")[-1].split("\n")
        assert last[0].startswith("retry: ")
        assert last[1].startswith(": credential ended")
        cursor = text.rpartition("id: ")[2].partition("\n")[0]
        task_id = (await caller.call("ListTasks", {}, headers=guarded.bearer()))["tasks"][0]["id"]
        again = {"Last-Event-ID": cursor}
        refused = await caller.refused(
            "SubscribeToTask", {"id": task_id}, headers={**guarded.bearer(exp=expires), **again}
        )
        assert (401, "UNAUTHENTICATED") == (refused.http_status, refused.reason)
        async with caller.stream("SubscribeToTask", {"id": task_id}, headers={**guarded.bearer(), **again}) as stream:
            async for frame in stream:
                assert frame.kind == "artifactUpdate", "it goes on where it stood"
                break
        await caller.call("CancelTask", {"id": task_id}, headers=guarded.bearer())


async def test_80_over_grpc_it_ends_with_a_status_that_says_when_to_come_back(nats_url: str, tmp_path: Path) -> None:
    async with guarding(nats_url, tmp_path) as guarded, channel(guarded.settings.grpc_address) as opened:
        caller = GrpcCaller(opened)
        shown = guarded.bearer(exp=int(time.time()) + 2)["Authorization"]
        call = caller.start("SendStreamingMessage", send(script(chunks=100_000, delayMs=50)), authorization=shown)
        async with asyncio.timeout(2 + WITHIN_SECONDS):
            refused = await refusal(call)
        assert refused.code == "UNAVAILABLE"
        assert "credential ended" in refused.message
        assert any("retryDelay" in detail for detail in refused.details)


@pytest.mark.parametrize("how", ["taken out of the file", "named in the list"])
async def test_80_a_stream_ends_when_its_key_is_revoked(nats_url: str, tmp_path: Path, how: str) -> None:
    revoked = tmp_path / "revoked"
    revoked.write_text("# nobody\n")
    async with guarding(nats_url, tmp_path, auth_revoked=str(revoked)) as guarded, guarded.http() as http:
        caller, shown = Caller(http, BINDINGS[0]), {"X-API-Key": guarded.api_key}
        request = caller.request("SendStreamingMessage", send(script(chunks=100_000, delayMs=50)), headers=shown)
        response = await http.send(request, stream=True)
        keys = tmp_path / "keys.jsonl"
        (key,) = parse(keys.read_bytes()).values()
        if how == "named in the list":
            revoked.write_text(f"credential {key.id}\n")
        else:
            keys.write_bytes(written([]))
        async with asyncio.timeout(WITHIN_SECONDS):
            text = (await response.aread()).decode()
        assert ": credential ended" in text.rstrip("\n").split("\n\n")[-1]
        refused = await caller.refused("ListTasks", {}, headers=shown)
        assert (401, "UNAUTHENTICATED") == (refused.http_status, refused.reason)


@pytest.mark.parametrize("binding", [*BINDINGS, "GRPC"])
async def test_our_client_goes_on_with_another_token_and_misses_nothing(
    nats_url: str, tmp_path: Path, binding: Any
) -> None:
    async with guarding(nats_url, tmp_path) as guarded:
        given = 0

        async def give() -> str:
            nonlocal given
            given += 1
            return guarded.issuer.token(exp=int(time.time()) + 2)

        client = Client(guarded.settings.base_url, binding=binding, credentials=bearer(give))
        seen: list[str] = []
        async with client, asyncio.timeout(50):
            work = Part(data={"script": {"chunks": 120, "delayMs": 50}})
            asked = Message(message_id="m", role=Role.USER, parts=(work,))
            async with client.stream(asked) as updates:
                async for update in updates:
                    if update.artifact is not None:
                        seen += [str(part.text).split()[0] for part in update.artifact.artifact.parts]
            task = await client.get(update.task_id)
        assert task.status.state is TaskState.COMPLETED
        assert seen == [f"{number:06d}" for number in range(120)], "nothing is lost, nothing comes twice"
        assert given >= 2, "more than one token was needed"


@pytest.mark.parametrize("binding", [*BINDINGS, "GRPC"])
async def test_80_a_send_that_waits_answers_with_the_task_as_it_was_when_the_credential_ends(
    nats_url: str, tmp_path: Path, binding: str
) -> None:
    """Whether the agent says something meanwhile or nothing at all; the task goes on."""
    async with guarding(nats_url, tmp_path) as guarded, guarded.http() as http, asyncio.timeout(WITHIN_SECONDS):
        http.timeout = httpx.Timeout(WITHIN_SECONDS)
        for delay_ms in (50, 600_000):
            shown = guarded.bearer(exp=int(time.time()) + 2)
            work = send(script(chunks=100_000, delayMs=delay_ms))
            if binding == "GRPC":
                async with channel(guarded.settings.grpc_address) as opened:
                    call = GrpcCaller(opened).start("SendMessage", work, authorization=shown["Authorization"])
                    answer = as_json(await call)
            else:
                answer = await Caller(http, binding).call("SendMessage", work, headers=shown)
            task = answer["task"]
            assert task["status"]["state"] == "TASK_STATE_WORKING"
            caller = Caller(http, BINDINGS[0])
            refused = await caller.refused("GetTask", {"id": task["id"]}, headers=shown)
            assert (401, "UNAUTHENTICATED") == (refused.http_status, refused.reason)
            seen = await caller.call("GetTask", {"id": task["id"]}, headers=guarded.bearer())
            assert seen["status"]["state"] == "TASK_STATE_WORKING", "it goes on"
            await caller.call("CancelTask", {"id": task["id"]}, headers=guarded.bearer())


@pytest.mark.parametrize("operation", ["SendMessage", "SendStreamingMessage"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_80_before_there_is_anything_to_show_nobody_is_told_to_send_again(
    nats_url: str, tmp_path: Path, binding: str, operation: str
) -> None:
    """401 would say that nothing was done. This agent may answer with a Message, so its task is not shown at once."""
    served = guarding(nats_url, tmp_path, agents=(*AGENTS, mute), drain_seconds=0.5)
    async with served as guarded, guarded.http() as http, asyncio.timeout(WITHIN_SECONDS):
        http.timeout = httpx.Timeout(WITHIN_SECONDS)
        caller = Caller(http, binding, "/agents/mute")
        before = await guarded.appended()
        refused = await caller.refused(operation, send("?"), headers=guarded.bearer(exp=int(time.time()) + 2))
        assert (503, "UNAVAILABLE") == (refused.http_status, refused.reason)
        assert "The credential ended" in refused.message
        assert await guarded.appended() != before, "the message was taken"
