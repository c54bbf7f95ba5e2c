"""Recorded tasks as regression tests: helpers of ``a2a_events.testing``, and the pytest plugin in others' projects."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from a2a_events import limits
from a2a_events.errors import Unreadable
from a2a_events.log.memory import MemoryLog
from a2a_events.model import TaskState
from a2a_events.runtime.agent import Agent, agent
from a2a_events.runtime.transfer import export, records_of
from a2a_events.runtime.turn import Turn
from a2a_events.testing import assert_replays, eventually, fold_every_prefix, in_memory, load_bundle, replay
from a2a_events.timeline.bundle import Bundle, redacted, write
from a2a_events.timeline.fold import Phase, TaskFold

ROOT = Path(__file__).parents[2]

GREETER = '''
from a2a_events import Turn, agent


@agent(name="greet")
async def greet(turn: Turn) -> None:
    """Greets."""
    await turn.artifact(f"{word}, {turn.text}!", artifact_id="greeting")


word = "Hello"
'''


@agent(name="greet")
async def greet(turn: Turn) -> None:
    await turn.artifact(f"Hello, {turn.text}!", artifact_id="greeting")


@agent(name="greet")
async def rude(turn: Turn) -> None:
    await turn.artifact(f"Go, {turn.text}!", artifact_id="greeting")


async def record(served: Agent, text: str = "Ada") -> Bundle:
    log = MemoryLog()
    async with in_memory(served, log=log) as calls:
        task = await calls.send_task(text)
        found = await log.find(task.id)
        assert found is not None
        bundle = await export(log, found)
    await log.close()
    return bundle


# --- helpers ----------------------------------------------------------------------------------------------------------


async def test_a_bundle_is_folded_at_every_prefix() -> None:
    bundle = await record(greet)
    tasks = fold_every_prefix(bundle)

    assert bundle.revisions == len(tasks)
    assert [TaskState.SUBMITTED, TaskState.SUBMITTED, TaskState.WORKING] == [task.status.state for task in tasks[:3]]
    assert tasks[-1].status.state is TaskState.COMPLETED
    assert [0, 1] == [len(task.artifacts) for task in tasks[2:4]]


async def test_a_bundle_with_sealed_content_is_folded_as_well() -> None:
    @agent(name="long")
    async def long(turn: Turn) -> None:
        for _ in range(40):
            await turn.chunk("text", "x" * 4000)

    tasks = fold_every_prefix(await record(long))
    assert 40 == len(tasks[-1].artifacts[0].parts)


async def test_a_timeline_with_a_hole_is_not_folded() -> None:
    bundle = await record(greet)
    with pytest.raises(Unreadable, match="does not follow"):
        fold_every_prefix(Bundle(bundle.task, bundle.records[:1] + bundle.records[2:]))


async def test_a_difference_is_an_assertion_that_says_where(tmp_path: Path) -> None:
    path = tmp_path / "greet.bundle.jsonl"
    path.write_bytes(write(await record(greet)))

    assert_replays(path, greet)
    assert not replay(load_bundle(path), greet).differs
    with pytest.raises(AssertionError) as caught:
        assert_replays(path, rude)
    said = str(caught.value)
    assert "agent greet no longer does what it did" in said
    assert "differs at revision 4, in artifact.parts.0.text" in said
    assert "Hello, Ada!" in said
    assert "Go, Ada!" in said


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("chunk"), st.sampled_from(["a", "b"]), st.text(max_size=5)),
        st.tuples(st.just("artifact"), st.sampled_from(["a", ""]), st.text(max_size=5)),
        st.tuples(st.just("status"), st.sampled_from(["WORKING", "AUTH_REQUIRED"]), st.text(max_size=3)),
        st.tuples(st.just("step"), st.sampled_from(["roll", "pay"]), st.just("")),
        st.tuples(st.just("sleep"), st.just("0.001"), st.just("")),
        st.tuples(st.just("flush"), st.just(""), st.just("")),
        st.tuples(st.just("raise"), st.sampled_from(["1", "2"]), st.just("")),
    ),
    max_size=12,
)
ENDINGS = st.sampled_from(["return", "complete", "fail", "reject", "require_input", "reply"])


@pytest.fixture
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RETRY_PAUSE_SECONDS", 0.001)


@pytest.mark.usefixtures("no_long_pauses")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPERATIONS, ENDINGS, st.sampled_from(["fail", "rerun", "resume"]), st.sampled_from(["task", "either"]))
async def test_whatever_an_agent_does_it_does_again(
    operations: list[tuple[str, str, str]], ending: str, policy: str, replies: str
) -> None:
    def made(extra: int) -> Agent:
        @agent(name="any", policy=policy, replies=replies)
        async def anything(turn: Turn) -> None:
            for what, where, text in operations:
                match what:
                    case "chunk":
                        await turn.chunk(where, text or " ")
                    case "artifact":
                        await turn.artifact(text or " ", artifact_id=where or None)
                    case "status":
                        await turn.status(TaskState[where], text or None)
                    case "step":
                        await turn.step(where, os.urandom(4).hex)
                    case "sleep":
                        await turn.sleep(float(where))
                    case "flush":
                        await turn.flush()
                    case _ if turn.attempt == int(where):
                        raise KeyError
            for number in range(extra):
                await turn.artifact(str(number), artifact_id="extra")
            match ending:
                case "fail":
                    turn.fail("failed")
                case "return":
                    pass
                case "require_input":
                    turn.require_input("what?")
                case "reply":
                    turn.reply("replied")
                case _:
                    getattr(turn, ending)()

        return anything

    log = MemoryLog()
    async with in_memory(made(0), log=log) as calls:
        answered = await calls.send("go")
        task_id = getattr(answered, "id", None) or next(task.task_id for task in log._timelines)
        found = await log.find(task_id)
        assert found is not None
        task = found

        async def over() -> bool:
            return TaskFold.of(await records_of(log, task)).head.phase in {Phase.RESTING, Phase.TERMINAL}

        await eventually(over, what="the end of the turn")
        bundle = await export(log, task)
    await log.close()

    same = replay(bundle, made(0))
    assert not same.differs, same
    if all(attempt.ran for attempt in same.attempts) and not _raised(bundle):
        assert replay(bundle, made(1)).differs
    fold_every_prefix(bundle)


def _raised(bundle: Bundle) -> bool:
    return any(b"the agent raised" in record.payload for record in bundle.records)


# --- one line in a test file, or in the configuration -----------------------------------------------------------------


class Project:
    """A project of somebody's, with its own pytest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tests" / "bundles").mkdir(parents=True)
        self.write("agents.py", GREETER)

    def write(self, name: str, content: str) -> None:
        """A file."""
        (self.folder / name).write_text(content)

    def configure(self, *lines: str) -> None:
        """Its pytest.toml."""
        self.write("pytest.toml", "\n".join(["[pytest]", 'filterwarnings = ["error"]', *lines, ""]))

    async def record(self, name: str = "greet", served: Agent = greet) -> Bundle:
        """A bundle among its tests."""
        bundle = await record(served)
        (self.folder / "tests" / "bundles" / f"{name}.bundle.jsonl").write_bytes(write(bundle))
        return bundle

    def test(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output of its tests."""
        plugin = ["-p", "a2a_events.testing.pytest_plugin"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *plugin, "-p", "no:cacheprovider", "-rA", *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "PYTHONPATH": str(ROOT),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


BUNDLES = 'a2a_events_bundles = ["tests/bundles"]'
GREET = 'a2a_events_agent = ["agents:greet"]'


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.processes
async def test_a_bundle_is_a_test_by_configuration(project: Project) -> None:
    project.configure(BUNDLES, GREET)
    await project.record()

    code, output = project.test()
    assert code == 0, output
    assert "1 passed" in output
    assert "tests/bundles/greet.bundle.jsonl" in output
    project.write("agents.py", GREETER.replace("Hello", "Go"))
    code, output = project.test()
    assert code == 1, output
    assert "differs at revision 4, in artifact.parts.0.text" in output
    assert "Go, Ada!" in output
    assert "Traceback" not in output
    project.configure(BUNDLES, GREET, 'a2a_events_ignore = ["artifact.parts.*.text"]')
    assert project.test()[0] == 0


@pytest.mark.processes
async def test_each_agent_has_its_bundles(project: Project) -> None:
    @agent(name="other")
    async def other(turn: Turn) -> None:
        turn.complete("other")

    await project.record()
    await project.record("other", other)
    project.write("more.py", GREETER.replace('"greet"', '"other"').replace("Hello", "Go"))
    project.configure(BUNDLES, 'a2a_events_agent = ["greet = agents:greet", "other = more:greet"]')

    code, output = project.test()
    assert code == 1, output
    assert "1 failed, 1 passed" in output
    project.configure(BUNDLES, 'a2a_events_agent = ["greet = agents:greet"]')
    code, output = project.test()
    assert "add a line other = module:attr" in output
    assert "1 failed, 1 passed" in output


@pytest.mark.processes
async def test_nothing_is_collected_unless_configured(project: Project) -> None:
    project.configure()
    await project.record()

    code, output = project.test()
    assert code == 5, output
    assert "no tests ran" in output


@pytest.mark.processes
async def test_a_damaged_bundle_and_an_agent_that_cannot_be_imported_fail_with_a_sentence(project: Project) -> None:
    project.configure(BUNDLES, 'a2a_events_agent = ["agents:nobody"]')
    await project.record()
    (project.folder / "tests" / "bundles" / "cut.bundle.jsonl").write_text("{}\n")

    code, output = project.test()
    assert code == 1, output
    assert "agents:nobody: module 'agents' has no attribute 'nobody'" in output
    assert "this is no bundle of a task" in output
    assert "2 failed" in output


@pytest.mark.processes
async def test_a_bundle_without_content_is_folded(project: Project) -> None:
    project.configure(BUNDLES, 'a2a_events_agent = ["nowhere:agent"]')
    bundle = await project.record()
    path = project.folder / "tests" / "bundles" / "greet.bundle.jsonl"
    path.write_bytes(write(redacted(bundle, content=True)))
    code, output = project.test()
    assert code == 0, output

    holed = Bundle(bundle.task, bundle.records[:1] + bundle.records[2:])
    path.write_bytes(write(redacted(holed, content=True)))
    code, output = project.test()
    assert code == 1, output


@pytest.mark.processes
async def test_a_bundle_is_a_test_by_one_line_of_a_test_file(project: Project) -> None:
    project.configure('pythonpath = ["."]')
    await project.record()
    line = 'test_recorded = replays("bundles/*.bundle.jsonl", agent=greet)'
    project.write(
        "tests/test_tasks.py", f"from a2a_events.testing import replays\nfrom agents import greet\n\n{line}\n"
    )

    code, output = project.test()
    assert code == 0, output
    assert "tests/test_tasks.py::test_recorded[greet.bundle.jsonl]" in output
    project.write("agents.py", GREETER.replace("Hello", "Go"))
    code, output = project.test()
    assert code == 1, output
    assert "differs at revision 4, in artifact.parts.0.text" in output
    (project.folder / "tests" / "bundles" / "greet.bundle.jsonl").unlink()
    code, output = project.test()
    assert code == 2, output
    assert "no bundle matches" in output


def test_the_plugin_imports_no_server_no_client_and_no_broker() -> None:
    script = (
        "import sys\nimport a2a_events.testing.pytest_plugin\n"
        "heavy = {'litestar', 'uvicorn', 'httpx', 'nats', 'rich', 'structlog'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30, cwd=ROOT)


def test_pytest_finds_the_plugin_and_the_library_does_not_need_pytest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"a2a_events": "a2a_events.testing.pytest_plugin"} == project["entry-points"]["pytest11"]
    assert not any("pytest" in dependency for dependency in project["dependencies"])
