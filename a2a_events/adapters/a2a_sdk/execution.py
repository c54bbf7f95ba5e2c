"""One turn of an executor: ``execute`` for each message, and ``cancel`` beside it when the client wants that."""

from __future__ import annotations

import asyncio

import structlog
from a2a.server.agent_execution import AgentExecutor, RequestContext

from a2a_events.adapters.a2a_sdk.context import cancel_context, request_context, task_before
from a2a_events.adapters.a2a_sdk.event_queue import TurnQueue
from a2a_events.runtime.turn import Turn

logger = structlog.get_logger(__name__)


async def run(executor: AgentExecutor, turn: Turn) -> None:
    """Run the executor for a turn: once for each message, in order, as the SDK does.

    Raises:
        Exception: what ``execute`` raised, unless it had said before how the task ends.
    """
    queue = TurnQueue(turn, task_before(turn))
    turn.cooperative = True  # from its first moment: the executor's cancel gets its grace time
    try:
        for message in turn.messages:
            context = request_context(turn, message, queue.task)
            assert context.message is not None, "a turn has messages"
            await queue.begin(context.message)
            if await _execute(executor, turn, context, queue) or not queue.goes_on():
                break
    except Exception as error:
        if not queue.ended and not queue.broken:
            raise
        logger.exception("executor raised after it had ended the task", task_id=turn.task_id, error=repr(error))
    finally:
        queue.close()
    queue.end_turn()


async def _execute(executor: AgentExecutor, turn: Turn, context: RequestContext, queue: TurnQueue) -> bool:
    """Run ``execute`` to its end, or until the client wants the task to stop; whether it did."""
    loop = asyncio.get_running_loop()
    executing = loop.create_task(executor.execute(context, queue), name=f"execute, task {turn.task_id}")
    canceled = loop.create_task(turn.wait_canceled())
    try:
        await asyncio.wait([executing, canceled], return_when=asyncio.FIRST_COMPLETED)
        if executing.done():
            executing.result()
            return False
        await _cancel(executor, turn, queue)
        return True
    finally:
        canceled.cancel()
        await _stop(executing)


async def _cancel(executor: AgentExecutor, turn: Turn, queue: TurnQueue) -> None:
    """The executor's own ``cancel``, before its ``execute`` is canceled: the queue still takes what it says."""
    try:
        await executor.cancel(cancel_context(turn, queue.task), queue)
    except Exception as error:  # noqa: BLE001 -- the cancel is in the log: CANCELED it will be, whatever an executor can do
        logger.warning("executor.cancel raised", task_id=turn.task_id, error=repr(error))


async def _stop(executing: asyncio.Task[None]) -> None:
    """Cancel an execution and wait for its end, however often this is canceled meanwhile.

    One that does not stop keeps this from returning: its worker is to see that, and have the process replaced.
    """
    interrupted = False
    while not executing.done():
        executing.cancel()
        try:
            await asyncio.wait([executing])
        except asyncio.CancelledError:
            interrupted = True
    if not executing.cancelled():
        executing.exception()  # nobody else asks for it
    if interrupted:
        raise asyncio.CancelledError
