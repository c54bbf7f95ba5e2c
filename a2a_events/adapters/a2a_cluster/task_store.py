"""``VersionedTaskStore`` of a2a-sdk on the log: a version is a position, and saving is a conditional append."""

from __future__ import annotations

import structlog
from a2a.server.cluster import ConcurrentTaskModificationError, StoredTask, TaskVersion, VersionedTaskStore
from a2a.server.context import ServerCallContext
from a2a.server.events.event_queue import Event
from a2a.server.owner_resolver import OwnerResolver
from a2a.types.a2a_pb2 import ListTasksRequest, ListTasksResponse, Task, TaskState, TaskStatusUpdateEvent
from a2a.utils.errors import InvalidAgentResponseError

from a2a_events.adapters.a2a_cluster import changes
from a2a_events.adapters.a2a_cluster.early_configs import EarlyConfigs
from a2a_events.adapters.a2a_cluster.fold import SdkFold
from a2a_events.adapters.a2a_cluster.journal import Journal, position_of
from a2a_events.adapters.a2a_cluster.lines import has_state
from a2a_events.adapters.a2a_cluster.lister import TaskLister
from a2a_events.timeline.events import Actor, Tombstone
from a2a_events.timeline.record import entry

logger = structlog.get_logger(__name__)


class LogTaskStore(VersionedTaskStore):
    """Tasks of a2a-sdk as timelines. Made by :class:`~a2a_events.adapters.a2a_cluster.Cluster`.

    An update is stored as what it is, a few hundred bytes, not as the task that it makes. The whole task is stored
    when it is first saved, when a client's message is added to it, and whenever an update does not amount to it.

    Args:
        journal: of the agent.
        owner_resolver: whose a task is.
        early: webhooks that were set before their tasks were saved.
        lister: lists them.
    """

    def __init__(
        self, journal: Journal, owner_resolver: OwnerResolver, early: EarlyConfigs, lister: TaskLister
    ) -> None:
        self._journal = journal
        self._owner_of = owner_resolver
        self._early = early
        self._lister = lister

    async def save(
        self,
        task: Task,
        *,
        event: Event | None = None,
        prev: Task | None = None,  # noqa: ARG002 -- TaskManager changes that very object before it saves it
        prev_version: TaskVersion = TaskVersion.MISSING,
        context: ServerCallContext,
    ) -> TaskVersion:
        """Store what ``event`` has made of the task; durable when it returns.

        One round trip when nobody else has written, two for CANCELED. Webhooks that are set or deleted meanwhile are
        no conflict.

        Returns:
            The position of the record.

        Raises:
            ConcurrentTaskModificationError: the task has changed since ``prev_version``, was deleted, or its id is
                somebody else's; of CANCELED, it has ended or is not there. Nothing was written.
            TypeError: the version is not one of this store.
            InvalidAgentResponseError: the task has no state. Nothing was written.
            Unavailable: nothing was written.
            Uncertain: it may be stored.
            RecordTooLarge: nothing was written, and repeating cannot help.
        """
        expected = position_of(prev_version)
        if not has_state(task):
            raise InvalidAgentResponseError(message=f"Task {task.id} has no status.state, so it cannot be stored")
        wanted = Task()
        wanted.CopyFrom(task)
        canceling = task.status.state == TaskState.TASK_STATE_CANCELED
        owner = self._owner_of(context)
        ref = await self._journal.ref(task.id)
        fold = self._journal.known(ref)
        if canceling or fold.version != expected:
            fold = await self._journal.current(ref)
        while True:
            if not _may_follow(fold, owner, expected, canceling=canceling):
                raise ConcurrentTaskModificationError(task.id)
            if fold.version != expected:
                # CANCELED, over updates that landed meanwhile: they stay, whoever watches has seen them.
                event = TaskStatusUpdateEvent(task_id=task.id, context_id=task.context_id, status=task.status)
                wanted, expected = _with_status(fold, task), fold.version
            now, actor = self._journal.now(fold), Actor(tenant=context.tenant, subject=owner)
            if fold.task is None:
                entries = changes.created(wanted, event, actor, self._early.of(ref, owner), now)
            else:
                entries = changes.saved(fold.task, wanted, event, actor, now)
            position = await self._journal.append(fold, entries)
            if position is not None:
                self._early.forget(ref)
                return TaskVersion(position)
            fold = await self._journal.current(ref)

    async def get(self, task_id: str, context: ServerCallContext) -> StoredTask | None:
        """The task, as its newest save left it at whichever replica; None if it is not there, or not the caller's.

        One round trip if this process knows the task, else what reading its timeline costs.

        Raises:
            Unavailable: no answer; repeating is safe.
            Unreadable: a record is damaged.
        """
        fold = await self._journal.current(await self._journal.ref(task_id))
        if fold.task is None or fold.owner != self._owner_of(context):
            return None
        return StoredTask(fold.copy(), TaskVersion(fold.version))

    async def list(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        """A page of the caller's tasks; see :meth:`~.lister.TaskLister.page`."""
        return await self._lister.page(params, self._owner_of(context))

    async def delete(self, task_id: str, context: ServerCallContext) -> None:
        """Put a tombstone: nobody sees the task any more, and nobody can save it again.

        What it held is taken off the disk by ``a2a-events retain``. A task that is not there, or not the caller's,
        is left alone. Two round trips.

        Raises:
            Unavailable: nothing was written; repeating is safe.
            Uncertain: it may be deleted; repeating is safe.
        """
        ref = await self._journal.ref(task_id)
        while True:
            fold = await self._journal.current(ref)
            if fold.task is None or fold.owner != self._owner_of(context):
                logger.warning("there is no such task to delete", task_id=task_id)
                return
            tombstone = Tombstone(reason="deleted by its a2a-sdk server")
            if await self._journal.append(fold, [entry(tombstone, self._journal.now(fold))]):
                return


def _may_follow(fold: SdkFold, owner: str, expected: int, *, canceling: bool) -> bool:
    if fold.head.removed or fold.head.replied or (fold.task is not None and fold.owner != owner):
        return False
    if canceling:
        return fold.task is not None and not fold.terminal
    return fold.version == expected


def _with_status(fold: SdkFold, task: Task) -> Task:
    wanted = fold.copy()
    wanted.status.CopyFrom(task.status)
    return wanted
