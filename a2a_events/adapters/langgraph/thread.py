"""A thread of LangGraph in the notes of a context: a checkpointer that any worker takes up where another left it.

It is LangGraph's own saver in memory, and every write to it is a note. Opening a thread is doing its notes again. A
thread with many notes is written anew, with the newest checkpoint of each namespace that can still be resumed.
"""

# LangGraph is typed in part only.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Final, Self, TypeAlias, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.memory import InMemorySaver

from a2a_events.runtime.notebook import Notebook

T = TypeVar("T")

NOTES: Final = 64
"""So many notes of a thread are read in one round trip or two; one with more is written anew."""
_DELTAS: Final = "counters_since_delta_snapshot"
"""In the metadata of a checkpoint that is nothing without those before it."""

_Entry: TypeAlias = list[Any]
"""``["put", config, checkpoint, metadata, versions]`` or ``["writes", config, writes, task id, task path]``."""


class Thread(InMemorySaver):
    """The checkpoints of one context's threads, for one turn.

    Args:
        book: the context's notes.
    """

    def __init__(self, book: Notebook) -> None:
        super().__init__()
        self._book = book
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, book: Notebook) -> Self:
        """A thread as its notes have it.

        Raises:
            LogError: the log does not answer.
        """
        thread = cls(book)
        thread._do_again()
        if len(book.notes) > NOTES:
            await thread._shorten()
        return thread

    # --- writes -------------------------------------------------------------------------------------------------------

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """See ``BaseCheckpointSaver``. Durable when this returns; so are all writes."""
        made = {name: value for name, value in checkpoint["channel_values"].items() if name in new_versions}
        place = _place(config)
        all_metadata = get_checkpoint_metadata(config, metadata)
        await self._write(["put", place, {**checkpoint, "channel_values": made}, all_metadata, new_versions])
        return {"configurable": {**place, "checkpoint_id": checkpoint["id"]}}

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """See ``BaseCheckpointSaver``."""
        await self._write(["writes", _place(config), [list(write) for write in writes], task_id, task_path])

    async def adelete_thread(self, thread_id: str) -> None:
        """See ``BaseCheckpointSaver``."""
        async with self._lock:
            while True:
                super().delete_thread(thread_id)
                if await self._book.replace(self._packed(list(self._entries(self.list(None))))):
                    return
                self._do_again()

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """See ``BaseCheckpointSaver``: for nodes that run graphs in threads."""
        return self._ask(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """See ``BaseCheckpointSaver``: for nodes that run graphs in threads."""
        self._ask(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """See ``BaseCheckpointSaver``: for nodes that run graphs in threads."""
        self._ask(self.adelete_thread(thread_id))

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _write(self, entry: _Entry) -> None:
        note = self._packed([entry])
        async with self._lock:
            if await self._book.add(note):
                self._do_again()
            else:
                self._do(entry)

    # --- notes --------------------------------------------------------------------------------------------------------

    def _packed(self, entries: list[_Entry]) -> bytes:
        kind, content = self.serde.dumps_typed(entries)
        return kind.encode() + b"\n" + content

    def _do_again(self) -> None:
        self.storage.clear()
        self.writes.clear()
        self.blobs.clear()
        for note in self._book.notes:
            kind, _, content = note.partition(b"\n")
            for entry in self.serde.loads_typed((kind.decode(), content)):
                self._do(entry)

    def _do(self, entry: _Entry) -> None:
        what, place, *rest = entry
        config: RunnableConfig = {"configurable": place}
        if what == "put":
            checkpoint, metadata, versions = rest
            super().put(config, checkpoint, metadata, versions)
        else:
            writes, task_id, task_path = rest
            super().put_writes(config, [(channel, value) for channel, value in writes], task_id, task_path)

    async def _shorten(self) -> None:
        """Write the thread anew, without what no run goes on from.

        If others write meanwhile it stays as it is: whoever opens it next tries again.
        """
        kept = list(self._resumable())
        if all(_DELTAS not in each.metadata for each in kept) and await self._book.replace(
            self._packed(list(self._entries(iter(kept))))
        ):
            self._do_again()

    def _resumable(self) -> Iterator[CheckpointTuple]:
        """The newest checkpoint of each namespace; of a task's subgraph only if its graph has not gone on since."""
        for thread_id in list(self.storage):
            newest = {ns: max(there) for ns, there in self.storage[thread_id].items() if there}
            for ns, checkpoint_id in newest.items():
                if ":" in ns and checkpoint_id < newest.get("", ""):
                    continue
                found = self.get_tuple(
                    {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}}
                )
                if found is not None:
                    yield found

    def _entries(self, checkpoints: Iterator[CheckpointTuple]) -> Iterator[_Entry]:
        """The entries that make these checkpoints, oldest first, with the writes after them."""
        for found in sorted(checkpoints, key=lambda one: one.checkpoint["id"]):
            place = _place(found.config)
            parent = (found.parent_config or {}).get("configurable", {}).get("checkpoint_id")
            put_at = {**place, "checkpoint_id": parent} if parent else _without_id(place)
            yield ["put", put_at, found.checkpoint, found.metadata, found.checkpoint["channel_versions"]]
            written = self.writes.get((place["thread_id"], place["checkpoint_ns"], place["checkpoint_id"]), {})
            groups: dict[tuple[str, str, bool], list[list[Any]]] = {}
            for (task_id, _), (_, channel, value, path) in sorted(written.items(), key=lambda one: one[0]):
                special = channel in WRITES_IDX_MAP  # these have numbers of their own
                groups.setdefault((task_id, path, special), []).append([channel, self.serde.loads_typed(value)])
            for (task_id, path, _), writes in groups.items():
                yield ["writes", place, writes, task_id, path]


def _place(config: RunnableConfig) -> dict[str, str]:
    given = config.get("configurable", {})
    place = {"thread_id": given["thread_id"], "checkpoint_ns": given.get("checkpoint_ns", "")}
    return {**place, "checkpoint_id": given["checkpoint_id"]} if given.get("checkpoint_id") else place


def _without_id(place: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in place.items() if name != "checkpoint_id"}
