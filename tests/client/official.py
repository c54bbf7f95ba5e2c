"""The official SDK's server with its memory task store, and an agent that does what the text says."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")  # read at import

from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, Message, Part, Role, Task, TaskState, TaskStatus
from starlette.applications import Starlette

from tests.client.serving import listener, serving, url_of

CHUNKS = 5


class Agent(AgentExecutor):
    """Does what the text of the message says.

    ``chunks`` writes an artifact in pieces; ``wait`` does so in two halves, the second when the test says ``go``;
    ``ask`` asks for input; ``reply`` answers without a task.
    """

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        assert context.task_id is not None
        assert context.context_id is not None
        text = context.message.parts[0].text
        if text == "reply":
            reply = Message(message_id="reply", role=Role.ROLE_AGENT, parts=[Part(text="hi")])
            await event_queue.enqueue_event(reply)
            return
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        if context.current_task is None:
            submitted = TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
            task = Task(id=context.task_id, context_id=context.context_id, status=submitted, history=[context.message])
            await event_queue.enqueue_event(task)
        if text == "ask":
            await updater.requires_input(updater.new_agent_message([Part(text="what?")]))
            return
        await updater.start_work(updater.new_agent_message([Part(text="working")]))
        for number in range(CHUNKS):
            if text == "wait" and number == CHUNKS // 2:
                await self.go.wait()
            last = number == CHUNKS - 1
            await updater.add_artifact(
                [Part(text=str(number))],
                artifact_id="a1",
                append=number > 0,
                last_chunk=last,
                metadata={f"m{number}": number},
            )
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


@contextlib.asynccontextmanager
async def official(agent: Agent) -> AsyncIterator[str]:
    bound = listener()
    url = url_of(bound)
    card = AgentCard(
        name="official",
        description="Does what the text says.",
        version="1.0.0",
        supported_interfaces=[
            AgentInterface(url=f"{url}/rpc", protocol_binding="JSONRPC", protocol_version="1.0"),
            AgentInterface(url=url, protocol_binding="HTTP+JSON", protocol_version="1.0"),
        ],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        # No skills: ProtoJSON leaves the empty list out although it is required, and the client has to live with it.
    )
    handler = DefaultRequestHandler(agent_executor=agent, task_store=InMemoryTaskStore(), agent_card=card)
    routes = [
        *create_agent_card_routes(card),
        *create_jsonrpc_routes(handler, "/rpc"),
        *create_rest_routes(handler),
    ]
    async with serving(Starlette(routes=routes), bound):
        try:
            yield url
        finally:
            agent.go.set()
