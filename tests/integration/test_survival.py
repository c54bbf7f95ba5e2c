"""Unfinished tasks outlive every process of the deployment, the broker included, and then go on (turns 4.8–4.11)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from a2a_events.model import Task, TaskState, decode
from a2a_events.services.nats_server import NatsServer
from a2a_events.testing import Deployment, eventually
from tests.integration.http import client, get_task, message

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.timeout(120)]

KEEPER = '''
from a2a_events import Turn, agent, limits

limits.SUSPEND_SECONDS = 0.5


@agent(name="keeper", policy="resume")
async def keeper(turn: Turn) -> None:
    """Waits in every way there is."""
    if turn.text == "input":
        turn.require_input("what?")
    elif turn.text == "auth":
        turn.require_auth("sign in")
    elif turn.text == "sleep":
        began = await turn.step("begin", lambda: turn.attempt, result=int)
        await turn.artifact(f"begun in attempt {began}; ", artifact_id="before")
        await turn.sleep(4)
        await turn.artifact("awake", artifact_id="after")
    elif turn.text == "work":
        done = len(turn.task.artifacts[0].parts) if turn.task.artifacts else 0
        for number in range(done, 40):
            await turn.chunk("log", f"{number} ")
            await turn.flush()
            await turn.sleep(0.1, name=f"before {number}")
    else:
        await turn.artifact(f"got {turn.text}", artifact_id="log")
'''


@pytest.fixture
async def deployment(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Deployment]:
    (tmp_path / "keeper.py").write_text(KEEPER)
    settings = {"ack_wait_seconds": "2"}
    async with Deployment(
        broker.url, agents="keeper:keeper", gateways=1, workers=1, settings=settings, folder=tmp_path
    ) as made:
        yield made


async def send(deployment: Deployment, text: str, task_id: str = "", *, immediately: bool = False) -> Task:
    asked = message(text, **({"taskId": task_id} if task_id else {}))
    async with client(deployment.gateways[-1].url) as http:
        answer = await http.post("/message:send", json={**asked, "configuration": {"returnImmediately": immediately}})
    return decode(json.dumps(answer.json()["task"]).encode(), Task)


def said(task: Task) -> str:
    return "".join(str(part.text) for artifact in task.artifacts for part in artifact.parts)


async def in_state(deployment: Deployment, task_id: str, state: TaskState) -> Task:
    async def reached() -> Task | None:
        async with client(deployment.gateways[-1].url) as http:
            task = await get_task(http, task_id)
        return task if task.status.state is state else None

    task: Task = await eventually(reached, timeout_seconds=60, what=f"{task_id} to be {state}")
    return task


async def test_tasks_that_wait_survive_the_end_of_every_process_and_go_on(
    deployment: Deployment, broker: NatsServer
) -> None:
    asked = await send(deployment, "input")
    unauthorised = await send(deployment, "auth")
    asleep = await send(deployment, "sleep", immediately=True)
    await in_state(deployment, asleep.id, TaskState.WORKING)
    for process in (*deployment.workers, *deployment.gateways):
        process.kill()
    broker.kill()
    await broker.start()
    await deployment.add_gateway()
    await deployment.add_worker()

    assert asked.status.state is TaskState.INPUT_REQUIRED
    assert unauthorised.status.state is TaskState.AUTH_REQUIRED
    assert said(await send(deployment, "this", asked.id)) == "got this"
    assert said(await send(deployment, "token", unauthorised.id)) == "got token"
    assert said(await in_state(deployment, asleep.id, TaskState.COMPLETED)) == "begun in attempt 1; awake"


async def test_a_turn_resumes_where_its_killed_worker_left_it(deployment: Deployment) -> None:
    await deployment.add_worker()
    working = await send(deployment, "work", immediately=True)

    async def begun() -> bool:
        async with client(deployment.gateways[0].url) as http:
            return "3 " in said(await get_task(http, working.id))

    await eventually(begun, what="some work")
    first, second = deployment.workers
    first.kill()
    await deployment.add_worker()
    second.ask_to_stop()
    await second.stopped()

    assert said(await in_state(deployment, working.id, TaskState.COMPLETED)) == "".join(
        f"{number} " for number in range(40)
    )
