"""The debugging API of a gateway: what can be read of one task, by who may see the task, below ``/debug/timelines``.

Who asks is decided as for GetTask. A task of somebody else answers exactly as one that does not exist.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode

from a2a_events import audit
from a2a_events.bindings.exchange import Exchange, Streams
from a2a_events.bindings.requests import Request
from a2a_events.bindings.timelines.api import Problem, TaskApi, answered
from a2a_events.errors import TaskNotFoundError
from a2a_events.log.port import Log
from a2a_events.model import GetTaskRequest
from a2a_events.runtime.operations import Operations
from a2a_events.runtime.timelines import Timelines

PREFIX: Final = "debug/timelines/"
"""Of two segments, so that it hides no path of A2A: there a tenant is one segment."""


class Debugging:
    """The API of all agents.

    Args:
        operations: which say who may see what.
        log: where tasks are.
        streams: where open streams are kept.
    """

    def __init__(self, operations: Operations, log: Log, streams: Streams) -> None:
        self._operations = operations
        self._task = TaskApi(log, streams, Timelines(log))

    async def __call__(self, exchange: Exchange, request: Request, path: str) -> None:
        """Serve one request; every failure is an answer.

        Args:
            exchange: the request.
            request: what is logged of it.
            path: raw, below the prefix.
        """
        request.operation = "Timeline"
        status = await answered(exchange, self._serve(exchange, request, path), candid=False)
        if status != 200:  # noqa: PLR2004 -- HTTP
            request.outcome = str(status) if status else "client gone"

    async def _serve(self, exchange: Exchange, request: Request, path: str) -> None:
        await request.enter(exchange.presented)
        exchange.still = request.holds
        request.permit("Timeline")
        match [unquote(segment) for segment in path.split("/")]:
            case ["tasks", task_id, *rest]:
                pass
            case _:
                raise Problem(404, "There is nothing at this path")
        # The tenant goes the way of GetTask's query, and is no parameter of what is asked about the timeline.
        pairs = parse_qsl(exchange.query, keep_blank_values=True)
        tenant = next((value for name, value in reversed(pairs) if name == "tenant"), "")
        asked = GetTaskRequest(id=task_id, tenant=tenant)
        agent = await request.agent(asked)
        try:
            task = await self._operations.visible(request.caller(asked, agent), agent, asked.id)
        except TaskNotFoundError as error:
            request.failed(error, error)
            raise
        audit.seen("timeline", task_id=task.task_id, **request.by)
        if rest == ["events"]:
            request.open()
        about = urlencode([(name, value) for name, value in pairs if name != "tenant"])
        await self._task(exchange, task, rest, about)
