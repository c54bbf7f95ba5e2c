"""ListTasks for an a2a-sdk server, from the same index as everybody's (ADR 0017)."""

from __future__ import annotations

import asyncio

import msgspec
from a2a.types.a2a_pb2 import ListTasksRequest, ListTasksResponse, Task, TaskState
from a2a.utils.constants import DEFAULT_LIST_TASKS_PAGE_SIZE
from a2a.utils.errors import InvalidParamsError
from msgspec import Struct

from a2a_events import errors
from a2a_events.adapters.a2a_cluster.journal import Journal
from a2a_events.model import AgentCapabilities, AgentCard
from a2a_events.model import ListTasksRequest as Asked
from a2a_events.runtime.caller import Caller
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.index import TaskIndex
from a2a_events.runtime.listing import Listing
from a2a_events.timeline.ids import reference


class _Listed(Struct):
    id: str


class _Page(Struct, rename="camel"):
    tasks: list[_Listed]
    next_page_token: str
    total_size: int


class TaskLister:
    """Lists the tasks of one agent.

    Args:
        journal: of the agent.
        index_file: where the index is kept across restarts, one process a file; empty: in memory, made anew from the
            log when somebody first lists.
    """

    def __init__(self, journal: Journal, index_file: str = "") -> None:
        self._journal = journal
        self._index_file = index_file
        self._index: TaskIndex | None = None
        self._agent = ServedAgent(
            journal.agent,
            AgentCard(
                name=journal.agent,
                description="",
                version="",
                supported_interfaces=(),
                capabilities=AgentCapabilities(),
                default_input_modes=(),
                default_output_modes=(),
                skills=(),
            ),
            "task",
        )

    async def page(self, params: ListTasksRequest, owner: str) -> ListTasksResponse:
        """One page of an owner's tasks, whole, newest status first.

        All pages of a listing show each task that was there when it began once, in the order of then. A task without
        a status timestamp stands where it was saved. One round trip a shard, and one or more a task.

        Raises:
            InvalidParamsError: the page token was not issued for this listing, or is old.
            UnavailableError: the index is being built; retry later.
            Unavailable: no answer; repeating is safe.
        """
        log = await self._journal.log()
        if self._index is None:
            self._index = TaskIndex(log, self._index_file)
        size = params.page_size or DEFAULT_LIST_TASKS_PAGE_SIZE
        asked = Asked(
            context_id=params.context_id,
            status=TaskState.Name(params.status) if params.status else "",
            page_size=size,
            page_token=params.page_token,
            status_timestamp_after=params.status_timestamp_after.ToJsonString()
            if params.HasField("status_timestamp_after")
            else "",
        )
        try:
            result = await Listing(log, self._index).page(Caller(subject=owner), self._agent, asked)
        except errors.InvalidParamsError as error:
            raise InvalidParamsError(message=error.message) from None
        found = msgspec.json.decode(result.json, type=_Page)
        tasks = await asyncio.gather(*(self._task(listed.id) for listed in found.tasks))
        return ListTasksResponse(
            tasks=[task for task in tasks if task is not None],
            next_page_token=found.next_page_token,
            page_size=size,
            total_size=found.total_size,
        )

    async def close(self) -> None:
        """Let go of the index."""
        if self._index is not None:
            await self._index.close()
            self._index = None

    async def _task(self, log_id: str) -> Task | None:
        ref = reference(log_id, agent=self._journal.agent, tenant="")
        assert ref is not None, "the index holds ids of ours"
        fold = await self._journal.current(ref)
        return None if fold.task is None else fold.copy()
