"""An unmodified worker of fasta2a in a worker of ours: every trap that its interfaces hold (ADR 0030)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fasta2a import FastA2A, Worker
from fasta2a.broker import InMemoryBroker
from fasta2a.pydantic_ai import AgentWorker, agent_to_a2a
from fasta2a.schema import Artifact, Message, TaskIdParams, TaskSendParams
from fasta2a.storage import InMemoryStorage
from opentelemetry import trace
from pydantic_ai import Agent, BinaryContent, ModelMessage, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from a2a_events import Part, Role, Task, TaskState, tracing
from a2a_events.adapters.fasta2a import LogBroker, LogStorage, agent_of
from a2a_events.adapters.recognise import recognise
from a2a_events.log.port import Handle
from a2a_events.model import StreamResponse
from a2a_events.runtime import worker as running
from a2a_events.testing import eventually
from a2a_events.timeline.decide import RERUN
from tests.adapters.test_pydantic_ai import Prompter, said
from tests.integration.stack import Stack, stack_of, states, text_of

ServeOf = Callable[..., Awaitable[Stack]]


@pytest.fixture(params=["memory", pytest.param("jetstream", marks=pytest.mark.integration)])
async def serve(request: pytest.FixtureRequest, nats_url: str, namespace: str) -> AsyncIterator[ServeOf]:
    """Serve a worker of fasta2a over each kind of log."""
    async with AsyncExitStack() as exits:

        async def served(worker: Any, **given: Any) -> Stack:
            made = agent_of(worker, **given)
            return await exits.enter_async_context(stack_of(request.param, made, nats_url, namespace))

        yield served


class Scripted(Worker[list[str]]):
    """A worker whose test says what it does."""

    def __init__(self, do: Callable[[Scripted, Any], Awaitable[None]]) -> None:
        super().__init__(broker=InMemoryBroker(), storage=InMemoryStorage())
        self.do = do
        self.runs: list[Any] = []
        self.canceled: list[str] = []
        self.ended: list[str] = []
        """Runs that have come to their end, whichever."""

    async def run_task(self, params: TaskSendParams) -> None:
        self.runs.append(params)
        try:
            await self.do(self, params)
        finally:
            self.ended.append(params["id"])

    async def cancel_task(self, params: TaskIdParams) -> None:
        assert params["id"] not in self.ended
        self.canceled.append(params["id"])

    def build_message_history(self, history: list[Message]) -> list[Any]:
        return history

    def build_artifacts(self, result: Any) -> list[Artifact]:
        return [Artifact(artifact_id="answer", name="answer", parts=[{"text": result}])]


class Deaf:
    """A delivery whose acknowledgement is lost."""

    def __init__(self, inner: Handle) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def acknowledge(self) -> None:
        pass


def agent_says(text: str) -> Message:
    return Message(role="agent", parts=[{"text": text}], message_id=str(uuid.uuid4()))


def texts(task: Task) -> list[list[str]]:
    return [[str(part.text) for part in artifact.parts] for artifact in task.artifacts]


def kinds(updates: list[StreamResponse]) -> str:
    """The updates of a stream, a letter each."""
    return "".join("T" if u.task else "S" if u.status_update else "A" for u in updates)


# --- pydantic-ai's bridge ---------------------------------------------------------------------------------------------


async def test_the_agent_worker_of_pydantic_ai_streams_ends_and_remembers(serve: ServeOf) -> None:
    model = Prompter(gated=True)
    app = agent_to_a2a(Agent(model.model), name="Prompter", version="3.2.1")
    stack = await serve(app)
    first = await stack.worker()
    updates = []
    async for update in stack.calls.stream("one", context_id="talk"):
        updates.append(update)
        model.gate.release()
    await first.stop()
    await stack.worker()
    for _ in range(6):
        model.gate.release()
    two = await stack.calls.send_task("two", context_id="talk")

    chunks = [u.artifact_update.artifact for u in updates if u.artifact_update is not None]
    assert [[str(p.text) for p in chunk.parts] for chunk in chunks] == [["you"], [" said"], [" one"], ["you said one"]]
    assert len({chunk.artifact_id for chunk in chunks}) == 1
    assert updates[-1].status_update is not None
    assert updates[-1].status_update.status.state is TaskState.COMPLETED
    assert texts(two) == [["you said two"]]
    assert [(m.role, [p.text for p in m.parts]) for m in two.history] == [
        (Role.USER, ["two"]),
        (Role.AGENT, ["you said two"]),
    ]
    assert said(model.histories[-1]) == ["one", "you said one", "two"]
    assert (stack.agent.name, stack.agent.card.version) == ("Prompter", "3.2.1")


async def test_many_tasks_run_at_once_in_one_worker(serve: ServeOf) -> None:
    together = asyncio.Barrier(20)

    async def work(worker: Scripted, params: Any) -> None:
        async with asyncio.timeout(20):
            await together.wait()
        task: Any = await worker.storage.load_task(params["id"])
        (message,) = task["history"]
        artifacts = worker.build_artifacts(message["parts"][0]["text"])
        await worker.storage.update_task(params["id"], "completed", new_artifacts=artifacts)

    stack = await serve(Scripted(work))
    await stack.worker()
    tasks = await asyncio.gather(*(stack.calls.send_task(f"number {n}") for n in range(20)))

    assert [texts(task) for task in tasks] == [[[f"number {n}"]] for n in range(20)]


async def test_what_a_worker_is_given_is_what_fasta2a_gives_it(serve: ServeOf) -> None:
    async def work(worker: Scripted, params: Any) -> None:
        task: Any = await worker.storage.load_task(params["id"])
        assert (task["id"], task["context_id"]) == (params["id"], params["context_id"])
        assert (task["status"]["state"], task["history"]) == ("submitted", [params["message"]])
        assert await worker.storage.load_task("t1-main-0-AAAAAAAAAAAAAAAAAAAAAA") is None
        assert await worker.storage.load_context(params["context_id"]) is None
        with pytest.raises(LookupError):
            await worker.storage.load_context("another")
        await worker.storage.update_task(params["id"], "completed")

    worker = Scripted(work)
    stack = await serve(worker)
    await stack.worker()
    task = await stack.calls.send_task("hello", context_id="talk")
    (params,) = worker.runs
    message = params["message"]

    assert task.status.state is TaskState.COMPLETED, task.status
    assert (message["role"], message["parts"], message["context_id"]) == ("user", [{"text": "hello"}], "talk")


async def test_what_a_worker_writes_is_stored_when_the_call_returns(serve: ServeOf) -> None:
    shown: list[list[list[str]]] = []

    async def work(worker: Scripted, params: Any) -> None:
        await worker.storage.update_task(params["id"], "working", new_artifacts=worker.build_artifacts("first"))
        shown.append(texts(await stack.other.get(params["id"])))
        await worker.storage.update_task(params["id"], "completed")

    stack = await serve(Scripted(work))
    await stack.worker()
    await stack.calls.send_task("go")

    assert shown == [[["first"]]]


# --- the traps --------------------------------------------------------------------------------------------------------


async def test_the_span_of_an_operation_belongs_to_the_trace_of_its_request(serve: ServeOf) -> None:
    seen: list[trace.SpanContext] = []

    async def work(worker: Scripted, params: Any) -> None:
        seen.append(trace.get_current_span().get_span_context())
        await worker.storage.update_task(params["id"], "completed")

    stack = await serve(Scripted(work))
    await stack.worker()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with tracing.span("server", "send", parent=parent):
        await stack.calls.send_task("traced")
    await stack.calls.send_task("not traced")

    assert seen[0].trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    assert seen[0].is_valid
    assert seen[1].trace_id != seen[0].trace_id


async def test_a_delivery_that_comes_again_after_the_end_runs_nothing_and_changes_nothing(
    serve: ServeOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(worker: Scripted, params: Any) -> None:
        await worker.storage.update_task(params["id"], "completed", new_artifacts=worker.build_artifacts("done"))

    worker = Scripted(work)
    stack = await serve(worker)
    acted_on: list[int] = []
    act_on = running.Worker._act_on

    async def losing_the_first(self: running.Worker, agent: Any, handle: Handle) -> None:
        taken: Any = Deaf(handle) if handle.count == 1 else handle
        await act_on(self, agent, taken)
        acted_on.append(handle.count)

    monkeypatch.setattr(running.Worker, "_act_on", losing_the_first)
    await stack.worker()
    task = await stack.calls.send_task("once")
    await eventually(lambda: acted_on == [1, 2], what="the second delivery")
    after = await stack.other.get(task.id)

    assert (task.status.state, after) == (TaskState.COMPLETED, task)
    assert len(worker.runs) == 1


async def test_a_task_that_is_completed_does_not_fail_because_its_worker_then_raises(serve: ServeOf) -> None:
    async def work(worker: Scripted, params: Any) -> None:
        await worker.storage.update_task(params["id"], "completed", new_artifacts=worker.build_artifacts("done"))
        raise RuntimeError("too late")

    stack = await serve(Scripted(work))
    await stack.worker()
    task = await stack.calls.send_task("once")

    assert (task.status.state, texts(task)) == (TaskState.COMPLETED, [["done"]])


async def test_a_worker_that_raises_fails_its_task(serve: ServeOf) -> None:
    async def work(_worker: Scripted, _params: Any) -> None:
        raise RuntimeError("no")

    stack = await serve(Scripted(work), policy=RERUN)
    await stack.worker()
    task = await stack.calls.send_task("once")

    assert task.status.state is TaskState.FAILED


async def test_a_cancel_is_handled_beside_the_run_and_ends_it(serve: ServeOf) -> None:
    begun = asyncio.Event()

    async def work(worker: Scripted, params: Any) -> None:
        await worker.storage.update_task(params["id"], "working", new_artifacts=worker.build_artifacts("begun"))
        begun.set()
        await asyncio.get_running_loop().create_future()

    worker = Scripted(work)
    stack = await serve(worker)
    await stack.worker()
    task = await stack.calls.send_task("long", immediately=True)
    await asyncio.wait_for(begun.wait(), 10)
    canceled = await stack.other.cancel(task.id)

    assert (canceled.status.state, texts(canceled)) == (TaskState.CANCELED, [["begun"]])
    assert (worker.canceled, worker.ended) == ([task.id], [task.id])


async def test_a_worker_may_end_a_canceled_run_by_itself_and_say_a_last_word(serve: ServeOf) -> None:
    stopping, stopped = asyncio.Event(), asyncio.Event()

    class Polite(Scripted):
        async def cancel_task(self, params: TaskIdParams) -> None:
            await super().cancel_task(params)
            stopping.set()
            await stopped.wait()

    async def work(worker: Scripted, params: Any) -> None:
        await worker.storage.update_task(params["id"], "working")
        await stopping.wait()
        artifacts = worker.build_artifacts("as far as I came")
        await worker.storage.update_task(params["id"], "canceled", new_artifacts=artifacts)
        stopped.set()

    worker = Polite(work)
    stack = await serve(worker)
    await stack.worker()
    task = await stack.calls.send_task("long", immediately=True)
    await eventually(lambda: bool(worker.runs), what="the run")
    canceled = await stack.calls.cancel(task.id)

    assert (canceled.status.state, texts(canceled)) == (TaskState.CANCELED, [["as far as I came"]])


async def test_emitting_waits_for_no_reader(serve: ServeOf) -> None:
    count = 1500  # more than any buffer on the way holds

    async def work(worker: Scripted, params: Any) -> None:
        for number in range(count):
            piece = Artifact(artifact_id="answer", parts=[{"text": f"{number} "}])
            await worker.publish_artifact(params["id"], params["context_id"], piece, append=True, last_chunk=False)
            await asyncio.sleep(0)  # others run in this loop
        await worker.storage.update_task(params["id"], "completed")

    worker = Scripted(work)
    stack = await serve(worker)
    await stack.worker()
    stream = stack.calls.stream("go")
    first = await anext(stream)  # and now nobody reads on
    assert first.task is not None
    async with asyncio.timeout(20):
        await eventually(lambda: bool(worker.ended), what="the end of the run", timeout_seconds=20)
    rest = [update async for update in stream]
    pieces = [p.text for u in rest if u.artifact_update is not None for p in u.artifact_update.artifact.parts]

    assert states(rest)[-1] is TaskState.COMPLETED
    assert pieces == [f"{number} " for number in range(count)]


async def test_what_is_emitted_after_the_task_was_completed_comes_before_its_end(serve: ServeOf) -> None:
    async def work(worker: Scripted, params: Any) -> None:
        task_id, context_id = params["id"], params["context_id"]
        artifacts = worker.build_artifacts("done")
        await worker.storage.update_task(task_id, "completed", new_artifacts=artifacts)
        await worker.publish_status(task_id, context_id, "completed", agent_says("bye"))
        for artifact in artifacts:
            await worker.publish_artifact(task_id, context_id, artifact)
        await worker.publish_artifact(task_id, context_id, Artifact(artifact_id="more", parts=[{"text": "more"}]))
        await worker.broker.event_bus.close(task_id)

    stack = await serve(Scripted(work))
    await stack.worker()
    updates = await stack.calls.collect("go")
    end = updates[-1].status_update
    assert end is not None
    task = await stack.calls.get(end.task_id)

    assert kinds(updates).endswith("AAS")
    assert kinds(updates).count("A") == 2  # each once, though the first was written and emitted
    assert (end.status.state, text_of(end.status.message)) == (TaskState.COMPLETED, "bye")
    assert texts(task) == [["done"], ["more"]]


async def test_what_is_only_emitted_ends_no_task(serve: ServeOf) -> None:
    async def work(worker: Scripted, params: Any) -> None:
        await worker.publish_status(params["id"], params["context_id"], "completed")

    stack = await serve(Scripted(work))
    await stack.worker()
    task = await stack.calls.send_task("go")

    assert task.status.state is TaskState.FAILED
    assert "it has to write how it ends" in text_of(task.status.message)


async def test_a_worker_that_asks_its_client_is_run_again_for_the_answer(serve: ServeOf) -> None:
    async def work(worker: Scripted, params: Any) -> None:
        words = params["message"]["parts"][0]["text"]
        known = await worker.storage.load_context(params["context_id"]) or []
        await worker.storage.update_context(params["context_id"], [*known, words])
        if len(known) < 2:
            await worker.storage.update_task(params["id"], "input-required", new_messages=[agent_says("and?")])
        else:
            artifacts = worker.build_artifacts(" ".join([*known, words]))
            await worker.storage.update_task(params["id"], "completed", new_artifacts=artifacts)

    stack = await serve(Scripted(work))
    await stack.worker()
    task = await stack.calls.send_task("one")
    task = await stack.calls.send_task("two", task_id=task.id)
    assert task.status.state is TaskState.INPUT_REQUIRED
    task = await stack.calls.send_task("three", task_id=task.id)

    assert (task.status.state, texts(task)) == (TaskState.COMPLETED, [["one two three"]])
    assert [text_of(message) for message in task.history] == ["one", "and?", "two", "and?", "three"]


async def test_a_run_that_is_run_anew_replaces_what_the_first_has_said_and_remembered(serve: ServeOf) -> None:
    stuck = asyncio.Event()
    known: list[list[str]] = []

    async def work(worker: Scripted, params: Any) -> None:
        known.append(await worker.storage.load_context(params["context_id"]) or [])
        words = f"attempt {len(known)}"
        piece = Artifact(artifact_id=str(uuid.uuid4()), parts=[{"text": words}])
        await worker.publish_artifact(params["id"], params["context_id"], piece, append=True, last_chunk=False)
        await worker.storage.update_context(params["context_id"], [*known[-1], words])
        if len(known) == 1:
            stuck.set()
            await asyncio.get_running_loop().create_future()
        await worker.storage.update_task(params["id"], "completed")

    stack = await serve(Scripted(work), policy=RERUN)
    first = await stack.worker()
    task = await stack.calls.send_task("go", immediately=True, context_id="talk")
    await asyncio.wait_for(stuck.wait(), 10)
    await first.vanish()
    await stack.worker()
    async for _ in stack.calls.subscribe(task.id):
        pass
    ended = await stack.calls.get(task.id)
    await stack.calls.send_task("again", context_id="talk")

    assert (ended.status.state, texts(ended)) == (TaskState.COMPLETED, [["attempt 2"]])
    assert known == [[], [], ["attempt 2"]]


async def test_bytes_that_a_context_keeps_come_back(serve: ServeOf) -> None:
    histories: list[list[ModelMessage]] = []

    async def tell(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
        histories.append(list(messages))
        yield "seen"

    stack = await serve(AgentWorker(InMemoryBroker(), InMemoryStorage(), Agent(FunctionModel(stream_function=tell))))
    await stack.worker()
    await stack.calls.send_task([Part(raw=b"\x89\xff", media_type="image/png")], context_id="files")
    task = await stack.calls.send_task("again", context_id="files")

    assert task.status.state is TaskState.COMPLETED
    prompt = histories[1][0].parts[0]
    assert isinstance(prompt, UserPromptPart)
    (picture,) = list(prompt.content)
    assert isinstance(picture, BinaryContent)
    assert picture.data == b"\x89\xff"


# --- how it is declared -----------------------------------------------------------------------------------------------


def test_workers_their_classes_and_their_servers_are_recognised() -> None:
    agent = Agent(TestModel(), name="weather")

    class MyWorker(AgentWorker[Any, Any]):
        def __init__(self, broker: Any, storage: Any) -> None:
            super().__init__(broker=broker, storage=storage, agent=agent)

    made = [recognise(MyWorker), recognise(MyWorker(LogBroker(), LogStorage())), recognise(agent_to_a2a(agent))]

    assert [each.name for each in made if each is not None] == ["weather"] * 3
    with pytest.raises(TypeError, match="does not say which worker it runs"):
        recognise(FastA2A(storage=InMemoryStorage(), broker=InMemoryBroker()))
    with pytest.raises(TypeError, match="expected a worker of fasta2a"):
        agent_of(1)


async def test_a_worker_that_runs_outside_of_a_turn_is_told_where_to_run() -> None:
    with pytest.raises(LookupError, match="a2a-events up --agent"):
        await LogStorage().update_task("t", "working")
    with pytest.raises(LookupError, match="served"):
        await LogStorage().load_task("t")
