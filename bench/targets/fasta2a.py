"""fasta2a with its memory storage and broker.

Two choices in its favour: it is asked by its own method names (by the names of A2A 1.0 it decodes and encodes every
event once more), and its worker starts every task at once. As it comes, a worker runs one task after the other, which
would take 200 paced tasks of a second more than three minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fasta2a import FastA2A, Worker
from fasta2a.broker import InMemoryBroker
from fasta2a.schema import Artifact, Message, Part, TaskIdParams, TaskSendParams
from fasta2a.storage import InMemoryStorage

from bench.targets.scripted import ARTIFACT, chunks, script_of
from bench.targets.serve import serve


class Scripted(Worker[None]):
    async def _loop(self) -> None:
        async with asyncio.TaskGroup() as running:
            async for operation in self.broker.receive_task_operations():
                running.create_task(self._handle_task_operation(operation))

    async def run_task(self, params: TaskSendParams) -> None:
        task, context = params["id"], params["context_id"]
        await self.storage.update_task(task, state="working")
        await self.publish_status(task, context, "working")
        parts: list[Part] = []
        asked: Any = params["message"]["parts"][0]
        async for number, text, last in chunks(script_of(asked["data"])):
            part = Part(text=text)
            parts.append(part)
            artifact = Artifact(artifact_id=ARTIFACT, parts=[part])
            await self.publish_artifact(task, context, artifact, append=number > 0, last_chunk=last)
        # The storage takes whole artifacts, so they are stored at the end; the status that ends the stream follows
        # by itself when this returns.
        await self.storage.update_task(
            task, state="completed", new_artifacts=[Artifact(artifact_id=ARTIFACT, parts=parts)]
        )

    async def cancel_task(self, params: TaskIdParams) -> None:
        raise NotImplementedError

    def build_message_history(self, history: list[Message]) -> list[Any]:  # noqa: ARG002 -- it has none
        return []

    def build_artifacts(self, result: Any) -> list[Artifact]:  # noqa: ARG002 -- streams carry them
        return []


def app(port: int) -> FastA2A:
    storage: InMemoryStorage[None] = InMemoryStorage()
    broker = InMemoryBroker()
    worker = Scripted(broker=broker, storage=storage)

    @asynccontextmanager
    async def lifespan(server: FastA2A) -> AsyncIterator[None]:
        async with server.task_manager, worker.run():
            yield

    return FastA2A(storage=storage, broker=broker, url=f"http://127.0.0.1:{port}/", lifespan=lifespan)


if __name__ == "__main__":
    serve(app)
