"""A log against the simplest log there is: a list a task."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from a2a_events.errors import Conflict
from a2a_events.log.port import Log, Watch
from a2a_events.testing import unique_namespace
from a2a_events.timeline.events import Kind
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record
from tests.contract.logs import Kit, jetstream_kit, memory_kit, new_task, offered, read_all, taken

KINDS = st.sampled_from([Kind.SUBMITTED, Kind.STATUS, Kind.ARTIFACT, Kind.CANCEL_REQUESTED])


class LogMachine(RuleBasedStateMachine):
    """Appends at right and wrong positions, reads from anywhere, watchers that come and go."""

    runner: asyncio.Runner
    kit: Kit
    tasks = Bundle("tasks")
    watchers = Bundle("watchers")

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[TaskRef, list[Record]] = {}
        self.stack = AsyncExitStack()

    @property
    def log(self) -> Log:
        return self.kit.log

    def do(self, work: Any) -> Any:
        return self.runner.run(asyncio.wait_for(work, 30))

    @rule(target=tasks, shard=st.sampled_from([0, 1]), tenant=st.sampled_from(["", "acme"]))
    def task(self, shard: int, tenant: str) -> TaskRef:
        made = new_task(self.log, shard=shard, tenant=tenant)
        self.model[made] = []
        return made

    @rule(task=tasks, count=st.integers(1, 4), kind=KINDS, size=st.sampled_from([0, 10, 70_000]))
    def append(self, task: TaskRef, count: int, kind: Kind, size: int) -> None:
        stored = self.model[task]
        last = stored[-1] if stored else None
        made = offered(last.header.last_revision if last else 0, count, kind=kind, size=size)
        position = self.do(self.log.try_append(task, made, last.position if last else 0))
        assert not last or position > last.position
        stored.append(Record(position, made.header, made.payload, made.inbound))

    @rule(task=tasks, where=st.integers(0, 10), beyond=st.booleans())
    def conflict(self, task: TaskRef, where: int, beyond: bool) -> None:
        stored = self.model[task]
        last = stored[-1].position if stored else 0
        wrong = last + where + 1 if beyond or not stored else stored[where % len(stored)].position - 1
        if wrong == last:
            return
        with pytest.raises(Conflict):
            self.do(self.log.try_append(task, offered(99), wrong))

    @rule(task=tasks, where=st.integers(0, 10))
    def read(self, task: TaskRef, where: int) -> None:
        stored = self.model[task]
        start = stored[where % len(stored)].position if stored else 1
        after = [r for r in stored if r.position >= start]
        assert self.do(read_all(self.kit.other, task, start)) == after
        assert self.do(self.kit.other.first_after(task, start)) == next((r for r in stored if r.position > start), None)

    @rule(target=watchers, task=tasks)
    def watch(self, task: TaskRef) -> tuple[TaskRef, Watch, Any, list[Record]]:
        async def begin() -> tuple[TaskRef, Watch, Any, list[Record]]:
            watch = self.kit.other.watch(task)
            await watch.__aenter__()
            seen = await read_all(self.kit.other, task)
            position, revision = (seen[-1].position, seen[-1].header.last_revision) if seen else (0, 0)
            return task, watch, watch.after(position, revision), seen

        made: tuple[TaskRef, Watch, Any, list[Record]] = self.do(begin())
        return made

    @rule(watcher=watchers)
    def catch_up(self, watcher: tuple[TaskRef, Watch, Any, list[Record]]) -> None:
        task, _, runs, seen = watcher
        stored = self.model[task]
        if len(seen) < len(stored):
            seen += self.do(taken(runs, stored[-1].header.last_revision))
        assert seen == stored

    @rule(watcher=consumes(watchers))
    def leave(self, watcher: tuple[TaskRef, Watch, Any, list[Record]]) -> None:
        async def end() -> None:
            await watcher[2].aclose()
            await watcher[1].__aexit__(None, None, None)

        self.do(end())

    @invariant()
    def last_is_last(self) -> None:
        for task, stored in self.model.items():
            assert self.do(self.log.last(task)) == (stored[-1] if stored else None)


@pytest.mark.parametrize("which", ["memory", pytest.param("raw", marks=pytest.mark.integration)])
def test_a_log_behaves_like_a_list(which: str, nats_url: str) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        opening = memory_kit() if which == "memory" else jetstream_kit(nats_url, unique_namespace(), raw=True)
        kit = runner.run(stack.enter_async_context(opening))
        machine = type("Machine", (LogMachine,), {"runner": runner, "kit": kit})
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=60 if which == "memory" else 15,
                    stateful_step_count=25,
                    deadline=None,
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
                    derandomize="CI" in os.environ,
                ),
            )
        finally:
            runner.run(stack.aclose())
