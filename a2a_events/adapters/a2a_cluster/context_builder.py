"""A request context that knows the context of the task that a message names."""

from __future__ import annotations

from a2a.server.agent_execution import RequestContext, SimpleRequestContextBuilder
from a2a.server.context import ServerCallContext
from a2a.types.a2a_pb2 import SendMessageRequest, Task

from a2a_events.adapters.a2a_cluster.journal import Journal


class StoredContextBuilder(SimpleRequestContextBuilder):
    """As a2a-sdk's own builder, but a message that names a task and no context gets the task's.

    a2a-sdk 1.3 invents one instead. At a replica that does not run the task, that marks it FAILED.

    Args:
        journal: of the agent.
    """

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    async def build(
        self,
        context: ServerCallContext,
        params: SendMessageRequest | None = None,
        task_id: str | None = None,
        context_id: str | None = None,
        task: Task | None = None,
    ) -> RequestContext:
        """The context of a request; no round trip, because the handler has just read the task."""
        if task_id and not context_id:
            known = self._journal.known(await self._journal.ref(task_id)).task
            context_id = known.context_id if known is not None else None
        return await super().build(context, params, task_id, context_id, task)
