"""The SDK's rules: whatever an executor does, its task is with us what it is with the SDK's own server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeAlias

import pytest
from a2a.helpers.proto_helpers import new_task_from_user_message, new_text_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.context import ServerCallContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import a2a_pb2 as pb
from google.protobuf.json_format import MessageToDict
from msgspec.structs import replace

from a2a_events.adapters.a2a_sdk import agent_of, protojson
from a2a_events.model import INTERRUPTED_STATES, Message, Task, TaskState
from a2a_events.runtime.agent import Deadlines
from a2a_events.runtime.rehearsal import rehearse
from a2a_events.runtime.transfer import export
from a2a_events.testing import eventually
from a2a_events.timeline.bundle import read, write
from tests.adapters.executors import LongJob, Quiz, Reporter, Signer, begin, updater_of
from tests.integration.stack import Stack, stack_of, states, text_of

Execute: TypeAlias = Callable[[RequestContext, EventQueue], Awaitable[None]]
ServeExecutor: TypeAlias = Callable[..., Awaitable[Stack]]


@pytest.fixture(params=["memory", pytest.param("jetstream", marks=pytest.mark.integration)])
async def serve(request: pytest.FixtureRequest, nats_url: str, namespace: str) -> AsyncIterator[ServeExecutor]:
    """Serve an executor over each kind of log."""
    async with AsyncExitStack() as exits:

        async def served(executor: AgentExecutor, **given: Any) -> Stack:
            agent = agent_of(executor, **given)
            stack = await exits.enter_async_context(stack_of(request.param, agent, nats_url, namespace))
            await stack.worker()
            return stack

        yield served


class Doing(AgentExecutor):
    """Does what a function does."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        await self._execute(context, event_queue)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise NotImplementedError


def part(text: str) -> pb.Part:
    return pb.Part(text=text)


async def completes(context: RequestContext, queue: EventQueue) -> None:
    updater = await begin(context, queue)
    await updater.complete(updater.new_agent_message([part("done")]))


async def reports_metadata(context: RequestContext, queue: EventQueue) -> None:
    updater = await begin(context, queue)
    await updater.update_status(pb.TASK_STATE_WORKING, metadata={"session": "s1", "tokens": 3})
    await updater.add_artifact([part("x")], artifact_id="a", metadata={"kind": "draft"}, extensions=["urn:x"])
    await updater.update_status(pb.TASK_STATE_COMPLETED, metadata={"tokens": 7})


async def rejects(context: RequestContext, queue: EventQueue) -> None:
    await (await begin(context, queue)).reject()


async def fails(context: RequestContext, queue: EventQueue) -> None:
    await (await begin(context, queue)).failed()


async def cancels_itself(context: RequestContext, queue: EventQueue) -> None:
    updater = await begin(context, queue)
    await updater.cancel(updater.new_agent_message([part("I give up")]))


async def comes_with_everything(context: RequestContext, queue: EventQueue) -> None:
    assert context.message is not None
    task = new_task_from_user_message(context.message)
    task.status.state = pb.TASK_STATE_COMPLETED
    task.artifacts.append(pb.Artifact(artifact_id="whole", name="Whole", parts=[part("all at once")]))
    await queue.enqueue_event(task)


async def artifact_comes_first(context: RequestContext, queue: EventQueue) -> None:
    updater = updater_of(context, queue)
    await updater.add_artifact([part("a")], artifact_id="a")
    await updater.complete()


async def replaces_an_artifact(context: RequestContext, queue: EventQueue) -> None:
    updater = await begin(context, queue)
    await updater.add_artifact([part("draft")], artifact_id="text", name="Draft")
    await updater.add_artifact([part("final")], artifact_id="text", name="Final")
    await updater.add_artifact([part(", signed")], artifact_id="text", append=True, metadata={"by": "me"})
    await updater.complete()


async def begins_twice(context: RequestContext, queue: EventQueue) -> None:
    assert context.message is not None
    updater = await begin(context, queue)
    await updater.add_artifact([part("kept")], artifact_id="a")
    await queue.enqueue_event(new_task_from_user_message(context.message))
    await updater.complete()


async def goes_on_after_asking(context: RequestContext, queue: EventQueue) -> None:
    updater = await begin(context, queue)
    await updater.requires_input(updater.new_agent_message([part("are you there?")]))
    await updater.start_work(updater.new_agent_message([part("never mind")]))
    await updater.complete()


async def asks(context: RequestContext, queue: EventQueue) -> None:
    updater = await begin(context, queue)
    await updater.requires_input(updater.new_agent_message([part("which?")]))


async def asks_for_a_signature(context: RequestContext, queue: EventQueue) -> None:
    updater = await begin(context, queue)
    await updater.requires_auth(updater.new_agent_message([part("sign in")]))


async def raises(context: RequestContext, queue: EventQueue) -> None:
    raise RuntimeError("nothing said")


async def raises_at_work(context: RequestContext, queue: EventQueue) -> None:
    updater = await begin(context, queue)
    await updater.add_artifact([part("half")], artifact_id="a")
    raise RuntimeError("half way")


async def raises_after_the_end(context: RequestContext, queue: EventQueue) -> None:
    await (await begin(context, queue)).complete()
    raise RuntimeError("too late")


async def returns_without_an_end(context: RequestContext, queue: EventQueue) -> None:
    updater = await begin(context, queue)
    await updater.start_work(updater.new_agent_message([part("still at it")]))


async def speaks_of_another_task(context: RequestContext, queue: EventQueue) -> None:
    await begin(context, queue)
    assert context.context_id is not None
    await TaskUpdater(queue, "another", context.context_id).complete()


async def speaks_of_another_context(context: RequestContext, queue: EventQueue) -> None:
    await begin(context, queue)
    assert context.task_id is not None
    status = pb.TaskStatus(state=pb.TASK_STATE_COMPLETED)
    await queue.enqueue_event(pb.TaskStatusUpdateEvent(task_id=context.task_id, context_id="another", status=status))


async def appends_to_nothing(context: RequestContext, queue: EventQueue) -> None:
    updater = await begin(context, queue)
    await updater.add_artifact([part("x")], artifact_id="unknown", append=True)


async def sends_a_message_in_a_task(context: RequestContext, queue: EventQueue) -> None:
    await begin(context, queue)
    await queue.enqueue_event(new_text_message("hello"))


SAME = [
    completes,
    reports_metadata,
    rejects,
    fails,
    cancels_itself,
    comes_with_everything,
    artifact_comes_first,
    replaces_an_artifact,
    begins_twice,
    goes_on_after_asking,
    asks,
    asks_for_a_signature,
    raises,
    raises_at_work,
    raises_after_the_end,
    returns_without_an_end,
    speaks_of_another_task,
    appends_to_nothing,
    sends_a_message_in_a_task,
]


@pytest.mark.parametrize("execute", SAME, ids=lambda execute: execute.__name__)
async def test_a_task_is_what_it_is_with_the_sdk_s_own_server(serve: ServeExecutor, execute: Execute) -> None:
    stack = await serve(Doing(execute))
    ours = await stack.calls.send_task("go", context_id="c1")
    assert _shown(protojson.write(await stack.calls.get(ours.id), pb.Task)) == _shown(await _with_the_sdk(execute))


async def _with_the_sdk(execute: Execute) -> pb.Task:
    """The task as the SDK's own server has it in the end."""
    card = pb.AgentCard(name="x", capabilities=pb.AgentCapabilities(streaming=True))
    handler = DefaultRequestHandler(Doing(execute), InMemoryTaskStore(), card)
    context = ServerCallContext()
    message = pb.Message(message_id="m1", role=pb.ROLE_USER, parts=[part("go")], context_id="c1")

    async def ended() -> pb.Task | None:
        page = await handler.on_list_tasks(pb.ListTasksRequest(include_artifacts=True), context)
        return page.tasks[0] if page.tasks else None

    # What the client is told of an executor that broke is not compared: its task is what counts.
    with suppress(Exception):
        async for _ in handler.on_message_send_stream(pb.SendMessageRequest(message=message), context):
            pass
    found: pb.Task = await eventually(ended, what="a task of the SDK's server")
    await handler.aclose()
    return found


def _shown(task: pb.Task) -> dict[str, Any]:
    """What two servers must agree on: not ids and times; and we say why a task failed where the SDK says nothing."""
    failed = task.status.state == pb.TASK_STATE_FAILED
    return {
        "state": pb.TaskState.Name(task.status.state),
        "said": "" if failed else _text(task.status.message),
        "artifacts": [
            (a.artifact_id, a.name, _text(a), MessageToDict(a.metadata), list(a.extensions)) for a in task.artifacts
        ],
        "history": [(pb.Role.Name(m.role), _text(m)) for m in task.history],
        "metadata": MessageToDict(task.metadata),
    }


def _text(of: pb.Message | pb.Artifact) -> str:
    return "".join(one.text for one in of.parts)


async def updates_before_the_task(context: RequestContext, queue: EventQueue) -> None:
    await updater_of(context, queue).start_work()


async def says_nothing(context: RequestContext, queue: EventQueue) -> None:
    pass


async def sends_two_messages(context: RequestContext, queue: EventQueue) -> None:
    await queue.enqueue_event(new_text_message("one"))
    await queue.enqueue_event(new_text_message("two"))


async def works_after_a_message(context: RequestContext, queue: EventQueue) -> None:
    await queue.enqueue_event(new_text_message("one"))
    await begin(context, queue)


async def works_after_the_end(context: RequestContext, queue: EventQueue) -> None:
    updater = await begin(context, queue)
    await updater.complete()
    await updater.add_artifact([part("late")], artifact_id="late")


async def says_no_state(context: RequestContext, queue: EventQueue) -> None:
    updater = await begin(context, queue)
    await updater.update_status(pb.TASK_STATE_UNSPECIFIED)


async def swallows_the_refusal(context: RequestContext, queue: EventQueue) -> None:
    updater = await begin(context, queue)
    with suppress(Exception):
        await updater.add_artifact([part("x")], artifact_id="unknown", append=True)
    await updater.complete()


BROKEN = [
    (updates_before_the_task, "should enqueue Task before"),
    (says_nothing, "returned without a Task or a Message"),
    (sends_two_messages, "Multiple Message objects"),
    (works_after_a_message, "in message mode"),
    (works_after_the_end, "after the end of the task"),
    (speaks_of_another_context, "is of context 'another'"),
    (says_no_state, "without a state"),
    (swallows_the_refusal, "append=True for nonexistent artifact_id='unknown'"),
]


@pytest.mark.parametrize(("execute", "reason"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
async def test_a_rule_that_is_broken_fails_the_task_and_is_named(
    serve: ServeExecutor, execute: Execute, reason: str
) -> None:
    stack = await serve(Doing(execute))
    task = await stack.calls.send_task("go")
    assert task.status.state is TaskState.FAILED
    assert reason in text_of(task.status.message)
    assert not task.artifacts


async def test_a_single_message_is_the_whole_answer_and_leaves_no_task(serve: ServeExecutor) -> None:
    async def greet(context: RequestContext, queue: EventQueue) -> None:
        await queue.enqueue_event(new_text_message(f"hello, {context.get_user_input()}"))

    stack = await serve(Doing(greet))
    answer = await stack.calls.send("world", context_id="c1")
    assert isinstance(answer, Message)
    assert (text_of(answer), answer.context_id, answer.task_id) == ("hello, world", "c1", "")


async def test_a_client_sees_chunks_and_statuses_as_they_come(serve: ServeExecutor) -> None:
    stack = await serve(Reporter())
    updates = await stack.calls.collect("a b c")
    assert states(updates) == [TaskState.SUBMITTED, TaskState.WORKING, TaskState.WORKING, TaskState.COMPLETED]
    chunks = [u.artifact_update for u in updates if u.artifact_update is not None]
    assert [(c.artifact.parts[0].text, c.append, c.last_chunk) for c in chunks] == [
        ("a ", False, False),
        ("b ", True, False),
        ("c ", True, True),
    ]


async def test_cancel_comes_before_the_execution_is_canceled_and_what_it_says_is_kept(serve: ServeExecutor) -> None:
    job = LongJob()
    stack = await serve(job)
    task = await stack.calls.send_task("work", immediately=True)
    await eventually(lambda: job.running, what="an executor at work")
    canceled = await stack.other.cancel(task.id)
    assert canceled.status.state is TaskState.CANCELED
    assert text_of(canceled.status.message) == "stopped on request"
    assert [a.artifact_id for a in canceled.artifacts] == ["log", "cleanup"]
    assert job.log == ["cancel called: None, 1 artifacts", "execute canceled"]


async def test_a_cancel_that_the_executor_cannot_do_is_done_without_it(serve: ServeExecutor) -> None:
    began = asyncio.Event()

    async def hang(context: RequestContext, queue: EventQueue) -> None:
        await begin(context, queue)
        began.set()
        await asyncio.Event().wait()

    stack = await serve(Doing(hang))
    task = await stack.calls.send_task("work", immediately=True)
    await began.wait()
    assert (await stack.calls.cancel(task.id)).status.state is TaskState.CANCELED


async def test_a_cancel_that_hangs_is_given_its_grace_time_only(serve: ServeExecutor) -> None:
    class Hangs(LongJob):
        async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
            self.log.append("cancel called")
            await asyncio.Event().wait()

    job = Hangs()
    stack = await serve(job, cancel_grace_seconds=1.0)
    task = await stack.calls.send_task("work", immediately=True)
    await eventually(lambda: job.running, what="an executor at work")
    canceled = await stack.calls.cancel(task.id)
    assert canceled.status.state is TaskState.CANCELED
    assert job.log == ["cancel called", "execute canceled"]


async def test_an_executor_that_waits_for_a_signature_elsewhere_stays_at_work(serve: ServeExecutor) -> None:
    signer = Signer()
    stack = await serve(signer)
    task = await stack.calls.send_task("contract")
    assert task.status.state is TaskState.AUTH_REQUIRED
    assert text_of(task.status.message) == "Sign at example.com"
    signer.signed.set()

    async def ended() -> Task | None:
        found = await stack.calls.get(task.id)
        return found if found.status.state not in INTERRUPTED_STATES else None

    done: Task = await eventually(ended, what="the end of the task")
    assert done.status.state is TaskState.COMPLETED
    assert [a.artifact_id for a in done.artifacts] == ["contract"]
    assert [text_of(message) for message in done.history] == ["contract", "Sign at example.com"]


async def test_a_follow_up_runs_on_another_worker_with_the_task_as_it_was_left(serve: ServeExecutor) -> None:
    stack = await serve(Quiz())
    asked = await stack.calls.send_task("begin")
    assert (asked.status.state, text_of(asked.status.message)) == (TaskState.INPUT_REQUIRED, "Your name?")
    first = stack._workers[0]
    await stack.worker()
    await first.stop()
    again = await stack.other.send_task("Ada", task_id=asked.id)  # no contextId: the stored task has it
    assert (again.status.state, text_of(again.status.message)) == (TaskState.INPUT_REQUIRED, "Your age?")
    done = await stack.other.send_task("36", task_id=asked.id)
    assert done.status.state is TaskState.COMPLETED
    assert done.artifacts[0].parts[0].text == "Ada, 36"
    assert done.context_id == asked.context_id


async def test_messages_that_wait_together_are_executed_one_after_the_other(serve: ServeExecutor) -> None:
    seen: list[tuple[str, str, list[str]]] = []
    gate = asyncio.Event()

    async def answer(context: RequestContext, queue: EventQueue) -> None:
        task = context.current_task or pb.Task()
        said = [_text(message) for message in [*task.history, task.status.message]]
        seen.append((context.get_user_input(), pb.TaskState.Name(task.status.state), said))
        updater = await begin(context, queue)
        await updater.add_artifact([part(context.get_user_input())], artifact_id=f"a{len(seen)}")
        await gate.wait()
        await updater.requires_input(updater.new_agent_message([part(f"more than {len(seen)}?")]))

    stack = await serve(Doing(answer))
    task = await stack.calls.send_task("one", immediately=True)
    await stack.calls.send_task("two", task_id=task.id, immediately=True)
    await stack.calls.send_task("three", task_id=task.id, immediately=True)
    gate.set()

    async def rests() -> Task | None:
        found = await stack.calls.get(task.id)
        return found if found.status.state is TaskState.INPUT_REQUIRED and len(found.artifacts) == 3 else None

    await eventually(rests, what="all three to be answered")
    assert seen == [
        ("one", "TASK_STATE_UNSPECIFIED", [""]),
        ("two", "TASK_STATE_INPUT_REQUIRED", ["one", "more than 1?"]),
        ("three", "TASK_STATE_INPUT_REQUIRED", ["one", "more than 1?", "two", "more than 2?"]),
    ]


async def test_a_task_that_was_left_without_an_end_takes_further_messages_and_ends_at_last(
    serve: ServeExecutor,
) -> None:
    seen: list[str] = []

    async def work(context: RequestContext, queue: EventQueue) -> None:
        updater = await begin(context, queue)
        await updater.start_work()
        assert context.current_task is None or context.current_task.status.state == pb.TASK_STATE_WORKING
        seen.append(context.get_user_input())

    stack = await serve(Doing(work), deadlines=Deadlines(input_seconds=1.0))
    task = await stack.calls.send_task("one")
    assert task.status.state is TaskState.WORKING
    again = await stack.calls.send_task("two", task_id=task.id)
    assert (again.status.state, seen) == (TaskState.WORKING, ["one", "two"])

    async def ended() -> Task | None:
        found = await stack.calls.get(task.id)
        return found if found.status.state is TaskState.FAILED else None

    failed: Task = await eventually(ended, timeout_seconds=20, what="the end of a task that nobody writes to")
    assert "no input came" in text_of(failed.status.message)


async def test_an_executor_is_shown_what_the_log_keeps_and_no_more(serve: ServeExecutor) -> None:
    contexts: list[RequestContext] = []

    async def look(context: RequestContext, queue: EventQueue) -> None:
        contexts.append(context)
        await (await begin(context, queue)).complete()

    stack = await serve(Doing(look))
    stack.calls._caller = replace(stack.calls._caller, subject="ada", tenant="acme")
    task = await stack.calls.send_task({"number": 3})
    (context,) = contexts
    assert (context.task_id, context.context_id) == (task.id, task.context_id)
    assert context.message is not None
    assert (context.message.task_id, context.message.context_id) == (task.id, task.context_id)
    assert MessageToDict(context.message.parts[0].data) == {"number": 3.0}
    assert context.call_context.tenant == context.tenant == "acme"
    assert (context.call_context.user.is_authenticated, context.call_context.user.user_name) == (True, "ada")
    assert dict(context.call_context.state) == {}
    assert context.requested_extensions == set()


@pytest.mark.parametrize("execute", [returns_without_an_end, asks, replaces_an_artifact, raises_at_work])
async def test_an_executor_can_be_rehearsed(serve: ServeExecutor, execute: Execute) -> None:
    stack = await serve(Doing(execute))
    task = await stack.calls.send_task("go")
    bundle = read(write(await export(stack.log, stack.ref(task.id))))
    unchanged = rehearse(bundle, agent_of(Doing(execute)))
    assert not unchanged.differs, [attempt.divergence for attempt in unchanged.attempts]
    assert rehearse(bundle, agent_of(Doing(completes))).differs
