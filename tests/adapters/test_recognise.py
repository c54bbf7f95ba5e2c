"""What ``--agent`` may name: objects of frameworks are recognised, and no framework is imported for it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue

from a2a_events.adapters.a2a_sdk import agent_of
from a2a_events.adapters.declaration import name_of
from a2a_events.adapters.recognise import recognise
from a2a_events.agents import echo
from a2a_events.services.worker import load_agents
from a2a_events.settings import SettingsError
from a2a_events.testing import in_memory
from tests.adapters.executors import HelloWorldAgentExecutor, LongJob

EXECUTORS = "tests.adapters.executors"


class NeedsAModel(AgentExecutor):
    """Cannot be made without arguments."""

    def __init__(self, model: str) -> None:
        self.model = model

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise NotImplementedError

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise NotImplementedError


def test_a_class_and_an_instance_are_agents_named_after_the_class() -> None:
    for value in (HelloWorldAgentExecutor, HelloWorldAgentExecutor()):
        agent = recognise(value)
        assert agent is not None
        assert (agent.name, agent.policy, agent.replies) == ("hello-world", "fail", "either")
        assert agent.card.description == "Greets, with a single Message: the SDK's first sample."


@pytest.mark.parametrize("value", [echo, 3, "text", AgentExecutor.execute, object()])
def test_what_is_no_executor_is_left_alone(value: object) -> None:
    assert recognise(value) is None


def test_a_worker_loads_executors_and_agents_beside_each_other() -> None:
    loaded = load_agents(f"{EXECUTORS}:LongJob,a2a_events.agents:echo,tests.adapters.deployed:rerun")
    assert [(agent.name, agent.policy) for agent in loaded] == [
        ("long-job", "fail"),
        ("echo", "fail"),
        ("rerun", "rerun"),
    ]


def test_an_executor_that_needs_arguments_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"test_recognise:NeedsAModel: .*missing 1 required.*'model'"):
        load_agents("tests.adapters.test_recognise:NeedsAModel")
    assert load_agents("tests.adapters.test_recognise:made")[0].name == "needs-a-model"


made = NeedsAModel("local")


@pytest.mark.parametrize(("given", "said"), [({"name": "no spaces"}, "name"), ({"policy": "maybe"}, "crash policy")])
def test_terms_that_do_not_go_together_are_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        agent_of(LongJob(), **given)  # type: ignore[arg-type]  # they are wrong


def test_a_name_is_the_class_s_without_the_endings_that_all_have() -> None:
    names = {"MyHTTPAgentExecutor": "my-http", "Executor": "executor", "agent_executor": "agent", "V2Executor": "v2"}
    for written, name in names.items():
        assert name_of(type(written, (), {})(), "executor", "agent") == name


def test_no_framework_is_imported_for_an_agent_of_ours() -> None:
    program = """
        import sys
        from a2a_events.services.worker import load_agents
        load_agents("a2a_events.agents:echo")
        print(sorted({"a2a", "google", "fasta2a", "pydantic_ai", "langgraph"} & set(sys.modules)))
    """
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


async def test_helpers_for_tests_take_executors_too() -> None:
    async with in_memory(HelloWorldAgentExecutor) as calls:
        answer = await calls.send("hi")
        assert answer.parts[0].text == "Hello World"  # type: ignore[union-attr]  # a Message
