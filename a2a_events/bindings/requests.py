"""What is known of one request while it is served, and the one line that is logged of it."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import structlog
from structlog.contextvars import bind_contextvars

from a2a_events import audit, limits, tracing
from a2a_events.bindings.dialect import V1_0, Dialect
from a2a_events.bindings.exchange import Streams
from a2a_events.bindings.identity.access import Access, named
from a2a_events.bindings.identity.port import Identified, Presented
from a2a_events.errors import A2AError, InvalidParamsError, TaskNotFoundError
from a2a_events.metrics.catalog import AUTH_FAILURES, OK, OPERATIONS, REQUEST_SECONDS, REQUESTS, REQUESTS_IN_FLIGHT
from a2a_events.model import SendMessageRequest
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
    "credential ended": "CREDENTIAL_ENDED",
    "too old": "TOO_OLD",
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
        "_access",
        "_close",
        "_directory",
        "_foreign",
        "_permitted",
        "_started",
        "address",
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
        "who",
    )

    def __init__(self, agent: str, directory: Directory, access: Access, binding: str, given_id: str = "") -> None:
        REQUESTS_IN_FLIGHT.add(1)
        self._directory = directory
        self._access = access
        self._permitted = ""
        """The operation that whoever asks may do."""
        self._foreign = False
        """Whether it was about a task of somebody else, which is not there for who asks."""
        self._close: Callable[[], None] | None = None
        """Gives the stream's place back."""
        self.who: Identified | None = None
        """Who asks, once they were let in."""
        self.address = ""
        """Where it comes from: the peer of its connection, or whom a trusted proxy names."""
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
                if self._close is not None:
                    self._close()
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

    async def enter(self, presented: Presented) -> None:
        """Establish who asks. The first thing that is done with a request, before its body is read.

        Raises:
            NotAuthenticated: nobody that is known.
            TooManyRequestsError: one too many, of the address or of the tenant; nothing was done.
            UnavailableError: that cannot be said now; nothing was done.
        """
        self.address = self._access.address(presented)
        self.who = await self._access.enter(presented, self.binding)

    def permit(self, operation: str) -> None:
        """Establish that whoever asks may do this, before what is asked for is looked at.

        Raises:
            PermissionDeniedError: they may not.
        """
        assert self.who is not None, "who asks comes first"
        self._access.permit(self.who, operation, binding=self.binding, address=self.address)
        self._permitted = operation

    def waits(self, asked: Any, streams: Streams) -> None:
        """Take the place of a stream for a message whose sender waits for the task: it costs what a stream costs.

        Args:
            asked: the request object, of an operation that answers once.
            streams: of this gateway.

        Raises:
            TooManyRequestsError: as :meth:`open`.
            UnavailableError: this gateway has too many open.
        """
        if isinstance(asked, SendMessageRequest) and not (
            asked.configuration is not None and asked.configuration.return_immediately
        ):
            streams.check_room()
            self.open()

    def open(self) -> None:
        """Take the place of one stream, until the request is over. To be asked before anything is written.

        Raises:
            TooManyRequestsError: the tenant or the address has too many open.
        """
        assert self.who is not None, "who asks comes first"
        assert self._close is None, "a request has one stream"
        self._close = self._access.caps.open(self.who, self._access.counted(self.address))

    def weighs(self, size: int, content: bytes = b"") -> None:
        """Count it for what it is: the next requests of who sent it wait for a large one.

        Args:
            size: bytes of the body.
            content: the same, in JSON.
        """
        assert self.who is not None, "who asks comes first"
        marks = sum(map(content.count, (b":", b"[", b"{")))
        requests = size // limits.REQUEST_WEIGHT_BYTES + marks // limits.REQUEST_WEIGHT_MARKS
        self._access.caps.weigh(self.who, self._access.counted(self.address), requests)

    @property
    def payer(self) -> str:
        """Whose share of the gateway's memory it takes; empty: nobody's."""
        assert self.who is not None, "who asks comes first"
        return self._access.caps.payer(self.who, self._access.counted(self.address))

    @property
    def by(self) -> dict[str, str]:
        """Who asks, as the audit log has it."""
        assert self.who is not None, "who asks comes first"
        return {**named(self.who), "binding": self.binding, "address": self.address}

    def holds(self) -> bool:
        """Whether whoever asks may still be shown anything."""
        return self.who is not None and self._access.holds(self.who)

    def caller(
        self,
        asked: Any,
        agent: ServedAgent,
        extensions: tuple[str, ...] = (),
        dialect: Dialect = V1_0,
        idempotency_key: str | None = None,
        *,
        waits: Callable[[Awaitable[None]], Awaitable[None]] | None = None,
    ) -> Caller:
        """Who asks, and for whose tenant.

        Args:
            asked: the request object.
            agent: who is asked; a tenant that only routed to it is nobody's.
            extensions: that are active for this request.
            dialect: the form in which the request came.
            idempotency_key: as the client gave it.
            waits: runs a wait for the answer, once the request is stored.

        Raises:
            PermissionDeniedError: the request names another tenant than the credential.
        """
        assert self.who is not None, "who asks comes first"
        assert self._permitted, "what is allowed comes second"
        asked_id = getattr(asked, "task_id", "") or getattr(asked, "id", "")
        if parse_task_id(asked_id):  # what we never made is not repeated in logs
            self.task_id = asked_id
        routed = "" if agent.tenant == asked.tenant else str(asked.tenant)
        caller = Caller(
            tenant=self._access.tenant(
                self.who, routed, operation=self._permitted, binding=self.binding, address=self.address
            ),
            subject=self.who.subject,
            extensions=extensions,
            protocol_version=dialect.version,
            dialect=dialect.name,
            idempotency_key=idempotency_key,
            holds=self.holds,
        )
        return caller if waits is None else msgspec.structs.replace(caller, waits=waits)

    async def agent(self, asked: Any) -> ServedAgent:
        """The agent that the path names, or the request's tenant.

        Raises:
            InvalidParamsError: the tenant is longer than an identifier may be.
            TaskNotFoundError: there is none, so there is no task of it either.
            UnavailableError: it is not known whether there is.
        """
        assert self._permitted, "who asks, and what is allowed, come first"
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
        if self._permitted == "DeleteTaskPushNotificationConfig":
            audit.deleted("webhook", task_id=result.task_id, **self.by)

    def failed(self, error: A2AError, raised: Exception | None = None) -> None:
        """What the client was told.

        Args:
            error: as its dialect has it.
            raised: what it was made of.
        """
        self.outcome, self.code = error.reason, error.jsonrpc_code
        self._foreign = isinstance(raised, TaskNotFoundError) and raised.of_somebody_else

    def log(self) -> None:
        """The request's line, and that of who asked for somebody else's task: after the answer, which it delays not."""
        if self._foreign:
            AUTH_FAILURES.inc("foreign")
            audit.denied("foreign", operation=self._permitted, task_id=self.task_id, **self.by)
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
