"""Executors as people write them for a2a-sdk, after the SDK's own samples. Nothing here knows that we exist."""

from __future__ import annotations

import asyncio

from a2a.helpers.proto_helpers import new_task_from_user_message, new_text_artifact, new_text_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.tasks import TaskUpdater
from a2a.types import a2a_pb2 as pb


class HelloWorldAgentExecutor(AgentExecutor):
    """Greets, with a single Message: the SDK's first sample."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        await event_queue.enqueue_event(new_text_message("Hello World", context_id=context.context_id))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise NotImplementedError("cancel not supported")


def updater_of(context: RequestContext, event_queue: EventQueue) -> TaskUpdater:
    assert context.task_id is not None
    assert context.context_id is not None
    return TaskUpdater(event_queue, context.task_id, context.context_id)


async def begin(context: RequestContext, event_queue: EventQueue) -> TaskUpdater:
    """How samples begin: a Task, if there is none."""
    if context.current_task is None:
        assert context.message is not None
        await event_queue.enqueue_event(new_task_from_user_message(context.message))
    return updater_of(context, event_queue)


class Reporter(AgentExecutor):
    """Streams an answer in chunks, with a TaskUpdater."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        updater = await begin(context, event_queue)
        await updater.start_work(updater.new_agent_message([pb.Part(text="thinking")]))
        words = context.get_user_input().split()
        for number, word in enumerate(words):
            await updater.add_artifact(
                [pb.Part(text=f"{word} ")],
                artifact_id="answer",
                name="Answer",
                append=number > 0,
                last_chunk=number + 1 == len(words),
            )
        await updater.complete(updater.new_agent_message([pb.Part(text=f"{len(words)} words")]))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await updater_of(context, event_queue).cancel()


class LongJob(AgentExecutor):
    """Works until it is canceled, and cleans up then; reports what became of it."""

    def __init__(self) -> None:
        self.running: dict[str, asyncio.Event] = {}
        self.log: list[str] = []

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        updater = await begin(context, event_queue)
        await updater.start_work()
        self.running[context.task_id] = asyncio.Event()
        try:
            for step in range(10_000):
                await updater.add_artifact([pb.Part(text=f"{step} ")], artifact_id="log", append=step > 0)
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            self.log.append("execute canceled")
            raise

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.current_task is not None
        updater = updater_of(context, event_queue)
        self.log.append(f"cancel called: {context.message}, {len(context.current_task.artifacts)} artifacts")
        self.running[context.task_id].set()
        await updater.add_artifact([pb.Part(text="cleaned up")], artifact_id="cleanup")
        await updater.cancel(updater.new_agent_message([pb.Part(text="stopped on request")]))


class Quiz(AgentExecutor):
    """Asks back until it has two answers, and remembers nothing but what the task says."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        updater = await begin(context, event_queue)
        task = context.current_task
        if task is None:
            await updater.requires_input(updater.new_agent_message([pb.Part(text="Your name?")]))
            return
        assert task.status.state == pb.TASK_STATE_INPUT_REQUIRED
        asked = task.status.message.parts[0].text
        answers = [message.parts[0].text for message in task.history if message.role == pb.ROLE_USER][1:]
        if asked == "Your name?":
            await updater.requires_input(updater.new_agent_message([pb.Part(text="Your age?")]))
            return
        artifact = new_text_artifact(name="card", text=f"{answers[0]}, {context.get_user_input()}")
        await updater.add_artifact(list(artifact.parts), artifact_id="card", name="card")
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await updater_of(context, event_queue).cancel()


class Signer(AgentExecutor):
    """Waits for an authorisation that is given somewhere else, and does not return meanwhile."""

    def __init__(self) -> None:
        self.signed = asyncio.Event()

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        updater = await begin(context, event_queue)
        await updater.requires_auth(updater.new_agent_message([pb.Part(text="Sign at example.com")]))
        await self.signed.wait()
        await updater.add_artifact([pb.Part(text="signed")], artifact_id="contract")
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await updater_of(context, event_queue).cancel()


class Counter(AgentExecutor):
    """Counts slowly, in one artifact with an id of its own."""

    STEPS = 20

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        updater = await begin(context, event_queue)
        await updater.start_work()
        for step in range(self.STEPS):
            await updater.add_artifact(
                [pb.Part(text=f"{step} ")],
                artifact_id="count",
                append=step > 0,
                last_chunk=step + 1 == self.STEPS,
            )
            await asyncio.sleep(0.1)
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await updater_of(context, event_queue).cancel()
