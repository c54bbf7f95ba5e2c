"""Recorded tasks as tests: load a bundle, fold it at every prefix, run an agent against it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from a2a_events.model import Task
from a2a_events.runtime.rehearsal import Rehearsed, Replay, rehearse
from a2a_events.timeline.bundle import Bundle, read
from a2a_events.timeline.comparison import Divergence, Tolerance
from a2a_events.timeline.fold import TaskFold
from a2a_events.timeline.render import task as render_task
from a2a_events.timeline.revisions import part
from a2a_events.timeline.snapshot import restore, take

if TYPE_CHECKING:
    from a2a_events.timeline.record import Record

_NOTHING_MAY_DIFFER: Final = Tolerance()
_task_decoder: Final = msgspec.json.Decoder(Task)


def load_bundle(path: str | PathLike[str]) -> Bundle:
    """A bundle from a file that ``a2a-events export`` wrote.

    Raises:
        OSError: the file cannot be read.
        DamagedBundle: it is no bundle, or was cut or changed.
    """
    return read(Path(path).read_bytes())


def fold_every_prefix(bundle: Bundle) -> list[Task]:
    """The task at every revision, 1 first, and a check that this version reads all of it.

    At each revision a snapshot is taken and restored, and both must show the same task, up to the end. So a bundle
    that an older version recorded shows whether its tasks still mean the same. Costs a rendering of the task for each
    event.

    Raises:
        Unreadable: a record is damaged, or needs a newer version.
        AssertionError: a snapshot shows another task than the fold.
    """
    fold, restored = TaskFold.empty(), TaskFold.empty()
    segments: dict[str, bytes] = {}
    tasks: list[Task] = []
    for record in bundle.records:
        for revision in range(record.header.revision, record.header.last_revision + 1):
            one: Record = part(record, revision, revision)
            fold.apply(one)
            restored.apply(one)
            shown = render_task(fold, bundle.task.task_id, {})
            snapshot = take(restored)
            segments.update((segment.key, segment.content) for segment in snapshot.segments)
            again = restore(snapshot.head)
            assert again is not None, f"the snapshot at revision {revision} cannot be restored"
            restored = again
            from_snapshot = render_task(restored, bundle.task.task_id, segments)
            assert shown == from_snapshot, f"the snapshot at revision {revision} shows another task"
            tasks.append(_task_decoder.decode(shown))
    return tasks


def replay(
    bundle: Bundle | str | PathLike[str], agent: object, *, tolerance: Tolerance = _NOTHING_MAY_DIFFER
) -> Replay:
    """Run an agent against a recorded task, offline, and compare. See ``runtime.rehearsal.rehearse``.

    Args:
        bundle: or the path of one.
        agent: whatever ``--agent`` could name.
        tolerance: what may differ.

    Raises:
        NotRehearsable: there is nothing in it to run an agent on; says why.
        DamagedBundle: it is no bundle, or was cut or changed.
        TypeError: this is no agent.
    """
    recorded = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    return rehearse(recorded, agent, tolerance=tolerance)


def assert_replays(
    bundle: Bundle | str | PathLike[str], agent: object, *, tolerance: Tolerance = _NOTHING_MAY_DIFFER
) -> None:
    """:func:`replay`, and nothing may differ but what is tolerated.

    Raises:
        AssertionError: something does; shows the first difference of each attempt.
        NotRehearsable: as :func:`replay`.
    """
    result = replay(bundle, agent, tolerance=tolerance)
    if result.differs:
        raise AssertionError(explained(result))


def replays(pattern: str, *, agent: object, tolerance: Tolerance = _NOTHING_MAY_DIFFER) -> Callable[[Path], None]:
    """A test for each bundle that a pattern finds, in one line of a test file.

    ``test_recorded = replays("bundles/*.bundle.jsonl", agent=greet)``

    Args:
        pattern: of files, relative to the folder of the calling file.
        agent: whatever ``--agent`` could name.
        tolerance: what may differ.

    Raises:
        FileNotFoundError: no file matches.
    """
    import pytest  # noqa: PLC0415 -- no dependency of the library

    caller = inspect.stack()[1]  # whose line it is
    folder = Path(caller.filename).parent
    found = sorted(folder.glob(pattern))
    if not found:
        raise FileNotFoundError(f"no bundle matches {pattern} in {folder}")

    @pytest.mark.parametrize("bundle", [pytest.param(path, id=path.name) for path in found])
    def test(bundle: Path) -> None:
        assert_replays(bundle, agent, tolerance=tolerance)

    return test


def explained(result: Replay) -> str:
    """The first difference of every attempt that has one, for people."""
    lines = [f"agent {result.agent} no longer does what it did in task {result.task_id}"]
    for attempt in result.attempts:
        if attempt.divergence is not None:
            lines += _explained(attempt, attempt.divergence)
            lines += [f"  {line}" for line in attempt.raised.splitlines()]
    return "\n".join(lines)


def _explained(attempt: Rehearsed, divergence: Divergence) -> list[str]:
    place = f"at revision {divergence.revision}" if divergence.recorded else f"after revision {divergence.revision}"
    where = f", in {divergence.path}" if divergence.path else ""
    return [
        f"attempt {attempt.attempt} (epoch {attempt.epoch}) differs {place}{where}; {attempt.equal} events are equal:",
        f"  recorded: {_json(divergence.recorded)}",
        f"  new:      {_json(divergence.new)}",
    ]


def _json(event: object) -> str:
    return "nothing more" if event is None else msgspec.json.encode(event).decode()
