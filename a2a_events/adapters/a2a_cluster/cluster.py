"""All stores of one a2a-sdk server, over one log."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from a2a.server.owner_resolver import OwnerResolver, resolve_user_scope

from a2a_events.adapters.a2a_cluster.context_builder import StoredContextBuilder
from a2a_events.adapters.a2a_cluster.early_configs import EarlyConfigs
from a2a_events.adapters.a2a_cluster.event_stream import LogTaskEventStream
from a2a_events.adapters.a2a_cluster.journal import Journal
from a2a_events.adapters.a2a_cluster.lister import TaskLister
from a2a_events.adapters.a2a_cluster.push_configs import LogPushConfigStore
from a2a_events.adapters.a2a_cluster.task_store import LogTaskStore
from a2a_events.log.port import Log


class Cluster:
    """What ``DefaultRequestHandler`` is given, so that any number of its servers is one.

    The log is opened by the first request, or by ``async with``, in the event loop that the server runs in.

    Args:
        open_log: gives the log.
        agent: name of the agent in the log: the same at every replica, and of no agent that workers serve there.
        owner_resolver: whose a task is; a2a-sdk's default is the user's name. One that needs tenants apart must say so.
        instance: names this process in records; default: the host, and some random characters.
        index_file: where the index behind ListTasks is kept across restarts; empty: in memory.
        seal_keys: that seal webhooks' secrets; none: the key that the log keeps.
    """

    def __init__(
        self,
        open_log: Callable[[], AbstractAsyncContextManager[Log]],
        agent: str,
        *,
        owner_resolver: OwnerResolver = resolve_user_scope,
        instance: str = "",
        index_file: str = "",
        seal_keys: tuple[bytes, ...] = (),
    ) -> None:
        self._journal = Journal(open_log, agent, instance=instance)
        self._lister = TaskLister(self._journal, index_file)
        early = EarlyConfigs()
        self.task_store = LogTaskStore(self._journal, owner_resolver, early, self._lister)
        self.event_stream = LogTaskEventStream(self._journal)
        self.push_config_store = LogPushConfigStore(self._journal, owner_resolver, early, seal_keys)
        self.request_context_builder = StoredContextBuilder(self._journal)

    async def log_task_id(self, task_id: str) -> str:
        """The id under which the log and its tools know a task; no round trip once the log is open."""
        return (await self._journal.ref(task_id)).task_id

    async def __aenter__(self) -> Self:
        """Open the log.

        Raises:
            NotProvisioned: its streams are not there: run ``a2a-events provision``.
            Unavailable: no server answers.
        """
        await self._journal.log()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As :meth:`aclose`."""
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of the log, after the handler was closed. Closing twice is harmless."""
        await self._lister.close()
        await self._journal.close()
