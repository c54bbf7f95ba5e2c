"""The official SDK's server with its memory task store, and an agent that does what the text says.

It speaks A2A 1.0 over JSON-RPC, HTTP+JSON and (where grpcio is installed) gRPC, and A2A 0.3 over the first two, by the
SDK's own translation.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from importlib.util import find_spec

os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")  # read at import

from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import (
    BasePushNotificationSender,
    InMemoryPushNotificationConfigStore,
    InMemoryTaskStore,
    TaskUpdater,
)
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, Message, Part, Role, Task, TaskState, TaskStatus
from httpx import AsyncClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

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
        capabilities=AgentCapabilities(streaming=True, push_notifications=True, extended_agent_card=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        # No skills: ProtoJSON leaves the empty list out although it is required, and the client has to live with it.
    )
    extended = AgentCard()
    extended.CopyFrom(card)
    # Without it the SDK does not show its card to those who speak 0.3.
    extended.supported_interfaces.append(
        AgentInterface(url=f"{url}/rpc", protocol_binding="JSONRPC", protocol_version="0.3")
    )
    extended.description = "Does what the text says, and knows you."
    configs = InMemoryPushNotificationConfigStore()
    # Plain HTTP: reading certificates would take longer than most tests.
    async with AsyncClient(verify=False) as http, contextlib.AsyncExitStack() as stack:  # noqa: S501 -- see above
        handler = DefaultRequestHandler(
            agent_executor=agent,
            task_store=InMemoryTaskStore(),
            agent_card=card,
            push_config_store=configs,
            push_sender=BasePushNotificationSender(http, configs),
            extended_agent_card=extended,
        )
        if find_spec("grpc"):
            port = await stack.enter_async_context(_grpc(handler))
            offered = AgentInterface(url=f"127.0.0.1:{port}", protocol_binding="GRPC", protocol_version="1.0")
            card.supported_interfaces.append(offered)
        routes = [
            *create_agent_card_routes(card),
            *(_old_card(url, transport) for transport in ("JSONRPC", "HTTP+JSON")),
            *create_jsonrpc_routes(handler, "/rpc", enable_v0_3_compat=True),
            *create_rest_routes(handler, enable_v0_3_compat=True),
        ]
        async with serving(Starlette(routes=routes), bound):
            try:
                yield url
            finally:
                agent.go.set()


@contextlib.asynccontextmanager
async def _grpc(handler: DefaultRequestHandler) -> AsyncIterator[int]:
    import grpc.aio  # noqa: PLC0415 -- an optional dependency
    from a2a.server.request_handlers import GrpcHandler  # noqa: PLC0415
    from a2a.types.a2a_pb2_grpc import add_A2AServiceServicer_to_server  # noqa: PLC0415

    server = grpc.aio.server()
    add_A2AServiceServicer_to_server(GrpcHandler(handler), server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


def old_base(url: str, transport: str) -> str:
    """Where the card of 0.3 for this transport is found."""
    return f"{url}/old/{transport}"


def _old_card(url: str, transport: str) -> Route:
    card = {
        "protocolVersion": "0.3.0",
        "name": "official",
        "description": "Speaks as it did last year.",
        "url": f"{url}/rpc" if transport == "JSONRPC" else url,
        "preferredTransport": transport,
        "version": "0.9.0",
        "capabilities": {"streaming": True, "pushNotifications": True},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [],
        "supportsAuthenticatedExtendedCard": True,
    }

    async def answer(_request: Request) -> Response:
        return JSONResponse(card)

    return Route(f"/old/{transport}/.well-known/agent-card.json", answer)
