"""Webhooks that come with the message that makes a task: a2a-sdk sets them before it saves the task."""

from __future__ import annotations

from collections import OrderedDict

from a2a_events import limits
from a2a_events.timeline.events import PushConfigSet
from a2a_events.timeline.ids import TaskRef


class EarlyConfigs:
    """Kept in the process that was asked, until the task's first record holds them.

    If the process dies in between, so does the request, and there is no task. What belongs to no task, because the
    agent answered with a message, is pushed out by later ones.
    """

    def __init__(self) -> None:
        self._configs: OrderedDict[TaskRef, dict[tuple[str, str], PushConfigSet]] = OrderedDict()

    def put(self, ref: TaskRef, config: PushConfigSet) -> None:
        """Keep one, in the place of its owner's one of the same id."""
        self._configs.setdefault(ref, {})[config.actor.subject, config.id] = config
        while len(self._configs) > limits.CLUSTER_TASKS:
            self._configs.popitem(last=False)

    def of(self, ref: TaskRef, owner: str | None = None) -> list[PushConfigSet]:
        """Those of a task, or of an owner's task; by id."""
        configs = sorted(self._configs.get(ref, {}).items())
        return [config for (subject, _), config in configs if owner in {None, subject}]

    def remove(self, ref: TaskRef, owner: str, config_id: str | None) -> None:
        """Remove one, or all that an owner has set for the task."""
        kept = self._configs.get(ref, {})
        for subject, known in list(kept):
            if subject == owner and config_id in {None, known}:
                del kept[subject, known]

    def forget(self, ref: TaskRef) -> None:
        """The task is stored."""
        self._configs.pop(ref, None)
