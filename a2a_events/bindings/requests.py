"""What is known of one request while it is served, and the one line that is logged of it."""

from __future__ import annotations

import time
from typing import Any, Final

import structlog

from a2a_events import limits
from a2a_events.bindings.dialect import V1_0, Dialect
from a2a_events.errors import A2AError, InvalidParamsError, TaskNotFoundError
from a2a_events.metrics.catalog import OK, REQUEST_SECONDS, REQUESTS, REQUESTS_IN_FLIGHT
from a2a_events.runtime.caller import Caller, Result
from a2a_events.runtime.directory import Directory, ServedAgent
from a2a_events.runtime.operations import Updates
from a2a_events.timeline.ids import parse_task_id

_CODES: Final = {
    "ok": OK,
    "ended": OK,
    "client gone": "CLIENT_GONE",
    "stalled": "STALLED",
    "gateway stopped": "STOPPED",
}
"""What a line says of an end that is no error, as metrics show it."""

logger = structlog.get_logger("a2a_events.request")


class Request:
    """One request: who asks, which agent, what came of it. Logged once, without content or credentials."""

    __slots__ = (
        "_directory",
        "_started",
        "agent_name",
        "binding",
        "code",
        "context_id",
        "dialect",
        "operation",
        "outcome",
        "revision",
        "task_id",
        "updates",
    )

    def __init__(self, agent: str, directory: Directory, binding: str) -> None:
        REQUESTS_IN_FLIGHT.add(1)
        self._directory = directory
        self.agent_name = agent
        self._started = time.perf_counter()
        self.binding = binding
        self.dialect = V1_0.name
        self.operation = ""
        self.task_id = ""
        self.context_id = ""
        self.outcome = "ok"
        self.code = 0
        self.revision = 0
        self.updates: Updates | None = None

    def caller(
        self,
        asked: Any,
        agent: ServedAgent,
        extensions: tuple[str, ...] = (),
        dialect: Dialect = V1_0,
        idempotency_key: str | None = None,
    ) -> Caller:
        """Who asks, by the request's routing string; nobody is asked to identify themselves.

        Args:
            asked: the request object.
            agent: who is asked; a tenant that only routed to it is nobody's.
            extensions: that are active for this request.
            dialect: the form in which the request came.
            idempotency_key: as the client gave it.
        """
        asked_id = getattr(asked, "task_id", "") or getattr(asked, "id", "")
        if parse_task_id(asked_id):  # what we never made is not repeated in logs
            self.task_id = asked_id
        tenant: str = asked.tenant
        return Caller(
            tenant="" if agent.tenant == tenant else tenant,
            extensions=extensions,
            protocol_version=dialect.version,
            dialect=dialect.name,
            idempotency_key=idempotency_key,
        )

    async def agent(self, asked: Any) -> ServedAgent:
        """The agent that the path names, or the request's tenant.

        Raises:
            InvalidParamsError: the tenant is longer than an identifier may be.
            TaskNotFoundError: there is none, so there is no task of it either.
            UnavailableError: it is not known whether there is.
        """
        tenant: str = asked.tenant
        if len(tenant) > limits.IDENTIFIER_CHARACTERS:
            raise InvalidParamsError(violations=(("tenant", f"at most {limits.IDENTIFIER_CHARACTERS} characters"),))
        found = await self._directory.find(self.agent_name, tenant)
        if found is None:
            raise TaskNotFoundError("No agent is served here")
        return found

    def streams(self, updates: Updates) -> None:
        """Which task a stream is of."""
        self.task_id, self.context_id, self.updates = updates.task.task_id, updates.context_id, updates

    def shows(self, result: Result) -> None:
        """What the answer is about."""
        self.task_id, self.context_id, self.revision = result.task_id, result.context_id, result.revision

    def failed(self, error: A2AError) -> None:
        """What the client was told."""
        self.outcome, self.code = error.reason, error.jsonrpc_code

    def log(self) -> None:
        """The request's line."""
        seconds = time.perf_counter() - self._started
        REQUESTS_IN_FLIGHT.add(-1)
        REQUESTS.inc(self.binding, self.operation, _CODES.get(self.outcome, self.outcome))
        REQUEST_SECONDS.observe(seconds, self.binding, self.operation)
        logger.info(
            "request",
            binding=self.binding,
            dialect=self.dialect,
            operation=self.operation,
            task_id=self.task_id or None,
            context_id=self.context_id or None,
            revision=(self.updates.revision if self.updates else self.revision) or None,
            outcome=self.outcome,
            seconds=round(seconds, 4),
        )
