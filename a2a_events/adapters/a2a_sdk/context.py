"""What an executor is shown of a request: rebuilt from the log, wherever the turn runs.

The log keeps, and so an executor finds, wherever and whenever it runs:

- the message, with the ids of task and context (the context's is always there, whoever left it out);
- the request's metadata and configuration, without the webhook, whose secrets are kept apart and sealed;
- the URIs of the extensions that the client asked for and the agent's card offers;
- the tenant, and the name of the caller if it was authenticated;
- the task: status, history, artifacts and metadata.

Nothing else. ``call_context.state`` is empty: headers, tokens and connections of the request are in no log.
"""

from __future__ import annotations

from a2a.auth.user import UnauthenticatedUser, User
from a2a.server.agent_execution import RequestContext
from a2a.server.context import ServerCallContext
from a2a.types import a2a_pb2 as pb
from msgspec.structs import replace

from a2a_events.adapters.a2a_sdk import protojson
from a2a_events.model import INTERRUPTED_STATES, Message, Role, SendMessageRequest, TaskStatus
from a2a_events.runtime.turn import Turn
from a2a_events.timeline.events import Actor


class Caller(User):
    """Who sent the message, as the log knows it."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def is_authenticated(self) -> bool:
        """Always: others are ``UnauthenticatedUser``."""
        return True

    @property
    def user_name(self) -> str:
        """The subject that was authenticated."""
        return self._name


def request_context(turn: Turn, message: Message, task: pb.Task | None) -> RequestContext:
    """For ``execute``: one message, and the task as it was before it, None for a new one."""
    request = SendMessageRequest(
        message=message,
        tenant=turn.actor.tenant,
        configuration=replace(turn.configuration, task_push_notification_config=None),
        metadata=turn.metadata or None,
    )
    return RequestContext(
        _call_context(turn),
        request=protojson.write(request, pb.SendMessageRequest),
        task_id=turn.task_id,
        context_id=turn.context_id,
        task=task,
    )


def cancel_context(turn: Turn, task: pb.Task | None) -> RequestContext:
    """For ``cancel``: the task as it is now, and no message."""
    return RequestContext(_call_context(turn), task_id=turn.task_id, context_id=turn.context_id, task=task)


def task_before(turn: Turn) -> pb.Task | None:
    """The task as the SDK would have it stored before it sees the messages of this turn; None if there was none.

    An executor that finds none begins with a Task. It finds none in the first turn of a task, and when that turn is run
    anew.
    """
    task = turn.task
    given = {id(one) for one in _given(task.history, turn.messages)}
    earlier = tuple(one for one in task.history if id(one) not in given)
    if not earlier and not task.artifacts:
        return None
    status = TaskStatus(state=turn.state_before, timestamp=task.status.timestamp)
    if turn.state_before in INTERRUPTED_STATES and earlier and earlier[-1].role is Role.AGENT:
        # What was asked: it stands in the status, and goes into the history when the next status comes.
        status, earlier = replace(status, message=earlier[-1]), earlier[:-1]
    return protojson.write(replace(task, history=earlier, status=status), pb.Task)


def _given(history: tuple[Message, ...], messages: list[Message]) -> list[Message]:
    """The messages of the turn, as they stand in the history: the newest of their ids."""
    wanted = [message.message_id for message in messages]
    found: list[Message] = []
    for message in reversed(history):
        if message.role is Role.USER and message.message_id in wanted:
            wanted.remove(message.message_id)
            found.append(message)
    return found


def _call_context(turn: Turn) -> ServerCallContext:
    return ServerCallContext(
        user=_user(turn.actor), tenant=turn.actor.tenant, requested_extensions=set(turn.extensions)
    )


def _user(actor: Actor) -> User:
    return UnauthenticatedUser() if actor.subject == Actor().subject else Caller(actor.subject)
