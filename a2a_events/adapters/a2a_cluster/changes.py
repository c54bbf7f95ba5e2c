"""Which events a save of a2a-sdk is: its update where that says it all, otherwise the whole task.

A whole task is a ``forked`` event, which sets status, history and artifacts, and is public where it is one of
a2a-sdk's own events. Around it stand the events that tell other readers what has changed: who asked for what, and the
new status, for timelines, lists, webhooks and retention.
"""

from __future__ import annotations

from typing import Final

from a2a.server.events.event_queue import Event
from a2a.types.a2a_pb2 import Message, Role, Task, TaskArtifactUpdateEvent, TaskStatusUpdateEvent
from msgspec import Raw

from a2a_events.adapters.a2a_cluster.fold import AGENT, amounts_to
from a2a_events.adapters.a2a_cluster.lines import message_json, task_json, update_entry
from a2a_events.timeline.events import Actor, Forked, MessageReceived, PushConfigSet, Replied, Submitted
from a2a_events.timeline.record import Entry, entry

_NO_MESSAGE: Final = Raw(b"{}")


def saved(before: Task, wanted: Task, event: Event | None, actor: Actor, now: int) -> list[Entry]:
    """A task that was there is saved.

    Args:
        before: as it was.
        wanted: as it is to be.
        event: that made it so; None: nothing that anybody is to be shown.
        actor: who asked.
        now: milliseconds.
    """
    update = event if isinstance(event, TaskStatusUpdateEvent | TaskArtifactUpdateEvent) else None
    if update is not None and amounts_to(before, update, wanted):
        return [update_entry(update, now)]
    asked = _asked(before, wanted)
    # A message alone is nothing that a client at the agent's own server is shown: nor is one elsewhere, whose stream
    # would end at the INPUT_REQUIRED that the task still shows.
    shown = isinstance(event, Task) and not (asked and wanted.status.state == before.status.state)
    received = [entry(MessageReceived(message=message_json(message), actor=actor), now) for message in asked]
    return [*received, *_whole(before, wanted, update, now, shown=shown)]


def created(wanted: Task, event: Event | None, actor: Actor, configs: list[PushConfigSet], now: int) -> list[Entry]:
    """A task is saved for the first time; arguments as for :func:`saved`, and webhooks that came with its message."""
    asked = next((message_json(message) for message in wanted.history if message.role == Role.ROLE_USER), _NO_MESSAGE)
    submitted = Submitted(context_id=wanted.context_id, message=asked, owner=actor, actor=actor)
    update = event if isinstance(event, TaskStatusUpdateEvent | TaskArtifactUpdateEvent) else None
    return [
        entry(submitted, now),
        *(entry(config, now) for config in configs),
        *_whole(None, wanted, update, now, shown=isinstance(event, Task)),
    ]


def replied(before: Task | None, message: Message, now: int) -> list[Entry]:
    """An agent answered with a message. Without a task that is all there will be; with one it changes nothing of it."""
    if before is None:
        submitted = Submitted(
            context_id=message.context_id, message=_NO_MESSAGE, owner=Actor(), actor=Actor(), replies="either"
        )
        return [entry(submitted, now), entry(Replied(message=message_json(message)), now)]
    received = MessageReceived(message=message_json(message), actor=Actor(role=AGENT))
    return [entry(received, now), _forked(before, now, shown=False, status_follows=False)]


def _whole(
    before: Task | None,
    wanted: Task,
    update: TaskStatusUpdateEvent | TaskArtifactUpdateEvent | None,
    now: int,
    *,
    shown: bool,
) -> list[Entry]:
    status = update if isinstance(update, TaskStatusUpdateEvent) else None
    if shown and (before is None or before.status != wanted.status):
        status = TaskStatusUpdateEvent(task_id=wanted.id, context_id=wanted.context_id, status=wanted.status)
    # An artifact goes in front of the whole, which holds it; a status behind, because nothing counts after an end.
    return [
        *([update_entry(update, now)] if isinstance(update, TaskArtifactUpdateEvent) else []),
        _forked(wanted, now, shown=shown, status_follows=status is not None),
        *([update_entry(status, now)] if status is not None else []),
    ]


def _forked(task: Task, now: int, *, shown: bool, status_follows: bool) -> Entry:
    event = Forked(state=task_json(task), pending=(), status_in_history=status_follows, public=shown)
    return entry(event, now)


def _asked(before: Task, wanted: Task) -> list[Message]:
    """What clients have said since."""
    known = {message.message_id for message in before.history}
    return [m for m in wanted.history if m.role == Role.ROLE_USER and m.message_id not in known]
