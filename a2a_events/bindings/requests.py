"""What is known of one request while it is served, and the one line that is logged of it."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import structlog
from structlog.contextvars import bind_contextvars

from a2a_events import limits, tracing
from a2a_events.bindings.dialect import V1_0, Dialect
from a2a_events.errors import A2AError, InvalidParamsError, TaskNotFoundError
from a2a_events.metrics.catalog import OK, OPERATIONS, REQUEST_SECONDS, REQUESTS, REQUESTS_IN_FLIGHT
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
"""Ends that are no error, as lines and metrics show them."""
_OURS: Final = frozenset({"INTERNAL_ERROR", "UNAVAILABLE", "INVALID_AGENT_RESPONSE"})
"""What is not the client's fault."""
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_HERE: Final = os.urandom(5).hex()
_numbers: Final = itertools.count(1)

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
        "request_id",
        "revision",
        "span",
        "task_id",
        "updates",
    )

    def __init__(self, agent: str, directory: Directory, binding: str, given_id: str = "") -> None:
        REQUESTS_IN_FLIGHT.add(1)
        self._directory = directory
        self.agent_name = agent
        self._started = time.monotonic()
        self.binding = binding
        self.dialect = V1_0.name
        self.operation = ""
        self.task_id = ""
        self.context_id = ""
        self.outcome = "ok"
        self.code = 0
        self.revision = 0
        self.updates: Updates | None = None
        self.span = tracing.NOTHING
        """Its span."""
        self.request_id = given_id if _REQUEST_ID.fullmatch(given_id) else f"{_HERE}-{next(_numbers):x}"
        """The request's id: the client's own, or one of ours."""
        bind_contextvars(request_id=self.request_id)

    @contextmanager
    def served(self, trace: str) -> Generator[None]:
        """The request's span, and its line at the end.

        Args:
            trace: the context that it came with.
        """
        with tracing.span("server", self.binding, parent=trace) as self.span:
            try:
                yield
            finally:
                if tracing.recording():
                    self._describe()
                self.log()

    def _describe(self) -> None:
        code = _CODES.get(self.outcome, self.outcome)
        attributes: dict[str, str | int] = {
            "rpc.system": self.binding.lower(),
            "a2a.operation": self.operation,
            "a2a.dialect": self.dialect,
            "a2a.code": code,
            "a2a.request.id": self.request_id,
        }
        if self.task_id:
            attributes["a2a.task.id"] = self.task_id
        if self.context_id:
            attributes["a2a.context.id"] = self.context_id
        if self.updates is not None:
            attributes["a2a.stream.revision"] = self.updates.revision
        name = self.operation if self.operation in OPERATIONS else self.binding
        self.span.set(attributes, name=name)
        if code in _OURS:
            self.span.failed(code)

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
        seconds = time.monotonic() - self._started
        REQUESTS_IN_FLIGHT.add(-1)
        code = _CODES.get(self.outcome, self.outcome)
        REQUESTS.inc(self.binding, self.operation, code)
        REQUEST_SECONDS.observe(seconds, self.binding, self.operation)
        logger.info(
            "request",
            binding=self.binding,
            dialect=self.dialect,
            op=self.operation,
            task_id=self.task_id or None,
            context_id=self.context_id or None,
            revision=(self.updates.revision if self.updates else self.revision) or None,
            code=code,
            dur_ms=round(seconds * 1000, 1),
        )
