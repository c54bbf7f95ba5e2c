"""The operations on webhooks that 0.3 asks for differently, put together from those of 1.0."""

from __future__ import annotations

from typing import Any

import msgspec

from a2a_events.errors import TaskNotFoundError
from a2a_events.model import (
    GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest,
    encode,
)
from a2a_events.runtime.caller import Caller, Result
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.operations import Operations


async def get(
    operations: Operations, caller: Caller, agent: ServedAgent, asked: GetTaskPushNotificationConfigRequest
) -> Result:
    """One config; the task's first one if the request does not say which.

    Raises:
        TaskNotFoundError: there is none.
    """
    if asked.id:
        return await operations.push_configs.get(caller, agent, asked)
    first = ListTaskPushNotificationConfigsRequest(task_id=asked.task_id, tenant=asked.tenant, page_size=1)
    page = await operations.push_configs.page(caller, agent, first)
    configs: list[Any] = msgspec.json.decode(page.json).get("configs", [])
    if not configs:
        raise TaskNotFoundError
    return msgspec.structs.replace(page, json=encode(configs[0]))


async def page(
    operations: Operations, caller: Caller, agent: ServedAgent, asked: ListTaskPushNotificationConfigsRequest
) -> Result:
    """All configs: 0.3 has no pages. One round trip a page."""
    configs: list[Any] = []
    while True:
        result = await operations.push_configs.page(caller, agent, asked)
        shown: dict[str, Any] = msgspec.json.decode(result.json)
        configs += shown.get("configs", [])
        token = shown.get("nextPageToken", "")
        if not token:
            return msgspec.structs.replace(result, json=encode({"configs": configs}))
        asked = msgspec.structs.replace(asked, page_token=token)
