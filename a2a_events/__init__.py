"""Durable, replayable agent-to-agent systems: A2A 1.0 over an event log on NATS JetStream.

Words, one meaning each: an *event* is an immutable fact about one task; the *log* is all events; the *timeline* is the
events of one task; a *position* is a place in the log and a *revision* the event's number within its task; a *cursor*
is both as opaque text; a *snapshot* is the fold at a revision. A *turn* is the work one message asks of an agent, a
*claim* a worker's right to run it, and the *epoch* the claim's number. An *update* is what a client receives.

What agents' authors need is here; ``a2a_events.client`` is for those who call agents, ``a2a_events.testing`` for tests.
"""

from __future__ import annotations

from a2a_events.model import Artifact, Message, Part, Role, Task, TaskState
from a2a_events.runtime.agent import Agent, Deadlines, agent, as_agent
from a2a_events.runtime.thread_turn import ThreadTurn
from a2a_events.runtime.turn import Recollection, Turn

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "Artifact",
    "Deadlines",
    "Message",
    "Part",
    "Recollection",
    "Role",
    "Task",
    "TaskState",
    "ThreadTurn",
    "Turn",
    "__version__",
    "agent",
    "as_agent",
]
