"""An executor as it is written for a2a-sdk: nothing here knows on what it runs."""

from __future__ import annotations

import asyncio

from a2a.helpers.proto_helpers import new_task_from_user_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.tasks import TaskUpdater
from a2a.types import Part, Role


class TripExecutor(AgentExecutor):
    """Plans a trip, day by day, once it knows how many days there are."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Ask first, then plan."""
        assert context.message is not None
        if context.current_task is None:
            await event_queue.enqueue_event(new_task_from_user_message(context.message))
        updater = TaskUpdater(event_queue, context.task_id or "", context.context_id or "")
        if context.current_task is None:
            await updater.requires_input(updater.new_agent_message([Part(text="How many days?")]))
            return
        asked = [message for message in context.current_task.history if message.role == Role.ROLE_USER]
        place = asked[0].parts[0].text
        days = int(context.get_user_input())
        await updater.start_work()
        for day in range(1, days + 1):
            await asyncio.sleep(0.2)  # a model would think here
            await updater.add_artifact(
                [Part(text=f"Day {day} in {place}.\n")], artifact_id="plan", append=day > 1, last_chunk=day == days
            )
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Say that it is over; the execution is canceled next."""
        await TaskUpdater(event_queue, context.task_id or "", context.context_id or "").cancel()
