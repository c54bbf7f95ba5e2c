"""A server of a2a-sdk as its author wrote it; the lines with ``cluster`` are all that is new.

The agent counts, one number a chunk, as far as its message says and as slowly as the environment says.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, Part, Task, TaskState, TaskStatus
from starlette.applications import Starlette

from a2a_events.services.a2a_cluster import jetstream_cluster

PAUSE_SECONDS = float(os.environ.get("COUNTING_PAUSE_SECONDS", "0.05"))


class Counting(AgentExecutor):
    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        assert context.message is not None
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        if context.current_task is None:
            submitted = TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
            task = Task(id=context.task_id, context_id=context.context_id, status=submitted, history=[context.message])
            await event_queue.enqueue_event(task)
        await updater.start_work()
        for number in range(int(context.get_user_input())):
            await updater.add_artifact([Part(text=str(number))], artifact_id="numbers", append=number > 0)
            await asyncio.sleep(PAUSE_SECONDS)
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise NotImplementedError


def application(port: int) -> Starlette:
    card = AgentCard(
        name="counting",
        description="Counts.",
        version="1.0.0",
        supported_interfaces=[
            AgentInterface(url=f"http://127.0.0.1:{port}/", protocol_binding="JSONRPC", protocol_version="1.0")
        ],
        capabilities=AgentCapabilities(streaming=True),
    )
    cluster = jetstream_cluster("counting")
    handler = DefaultRequestHandler(
        agent_executor=Counting(),
        agent_card=card,
        task_store=cluster.task_store,
        event_stream=cluster.event_stream,
        push_config_store=cluster.push_config_store,
        request_context_builder=cluster.request_context_builder,
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with cluster:
            yield
            await handler.aclose()

    return Starlette(routes=[*create_jsonrpc_routes(handler, "/"), *create_agent_card_routes(card)], lifespan=lifespan)


if __name__ == "__main__":
    number = int(sys.argv[1])
    uvicorn.run(application(number), host="127.0.0.1", port=number, log_level="warning")
