"""All tasks of one tenant: which they are, and gone."""

from __future__ import annotations

from a2a_events import audit
from a2a_events.log.port import Log, Removing
from a2a_events.runtime.retention import Removed, Retention
from a2a_events.timeline.ids import TaskRef, token
from a2a_events.timeline.record import Writer


async def tasks_of(log: Log, tenant: str) -> list[TaskRef]:
    """Every task of a tenant that was not removed, in all regions. Reads every log, other regions' from their mirrors.

    Args:
        log: whose.
        tenant: the raw name; empty: the tasks of no tenant.

    Raises:
        Unavailable: no answer; repeating is safe.
    """
    wanted = token(tenant)
    found: dict[TaskRef, bool] = {}
    for name in log.logs:
        for shard, end in (await log.ends(name)).items():
            async for batch in log.scan(shard, 1, end.position, name):
                for stored in batch:
                    if stored.task.tenant == wanted:
                        found[stored.task] = not stored.record.header.tombstone
    return [task for task, there in found.items() if there]


async def delete(
    log: Removing, writer: Writer, tenant: str, *, grace_seconds: float | None = None
) -> tuple[Removed, list[TaskRef]]:
    """Remove all tasks of a tenant from this region's log that have ended, as retention does, however young they are.

    When none is left there, what agents keep for the tenant's contexts goes too.

    Returns:
        What was done, and the tasks that are still there: they have not ended, cannot be read, or live in the log of
        another region, where they are removed.

    Raises:
        LogError: no answer; deleting again goes on.
    """
    wanted = token(tenant)
    retention = Retention(
        log,
        writer,
        older_than_seconds=0.0,
        wanted=lambda task: task.tenant == wanted,
        reason="tenant deleted",
        grace_seconds=grace_seconds,
    )
    done, left = await retention.run(), await tasks_of(log, tenant)
    if all(task.log != log.name for task in left):
        await log.forget_contexts(wanted)
        audit.deleted("contexts", tenant=tenant, reason="tenant deleted", by=writer.instance)
    return done, left
