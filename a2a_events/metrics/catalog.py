"""Every metric of this project (docs/observability.md says what each is for).

No label holds an id of a task, context or tenant, or anything else that a client has said.
"""

from __future__ import annotations

from typing import Final

from a2a_events.metrics.kinds import Counter, Gauge, Histogram, Metric

OPERATIONS: Final = (
    "SendMessage",
    "SendStreamingMessage",
    "GetTask",
    "ListTasks",
    "CancelTask",
    "SubscribeToTask",
    "CreateTaskPushNotificationConfig",
    "GetTaskPushNotificationConfig",
    "ListTaskPushNotificationConfigs",
    "DeleteTaskPushNotificationConfig",
    "GetExtendedAgentCard",
)
STREAMS: Final = ("SendStreamingMessage", "SubscribeToTask", "Timeline")
BINDINGS: Final = ("JSONRPC", "HTTP+JSON", "GRPC", "DEBUG")
TERMINAL: Final = ("completed", "failed", "canceled", "rejected")
OK: Final = "OK"
CODES: Final = (
    OK,
    "CLIENT_GONE",
    "STALLED",
    "STOPPED",
    "CREDENTIAL_ENDED",
    "TOO_OLD",
    "TASK_NOT_FOUND",
    "TASK_NOT_CANCELABLE",
    "PUSH_NOTIFICATION_NOT_SUPPORTED",
    "UNSUPPORTED_OPERATION",
    "CONTENT_TYPE_NOT_SUPPORTED",
    "INVALID_AGENT_RESPONSE",
    "EXTENDED_AGENT_CARD_NOT_CONFIGURED",
    "EXTENSION_SUPPORT_REQUIRED",
    "VERSION_NOT_SUPPORTED",
    "TASK_GENERATION_MISMATCH",
    "PARSE_ERROR",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "INVALID_PARAMS",
    "PAYLOAD_TOO_LARGE",
    "UNSUPPORTED_ENCODING",
    "UNSUPPORTED_MEDIA_TYPE",
    "INTERNAL_ERROR",
    "UNAVAILABLE",
    "TOO_MANY_REQUESTS",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
)
"""How a request can end: well, without its client, from here, or with the reason of an error."""

_REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_APPEND_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0)
_WAIT_SECONDS: Final = (0.005, 0.025, 0.1, 0.25, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 1800.0)
_TASK_SECONDS: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0)

# --- requests --------------------------------------------------------------------------------------------------------
REQUESTS: Final = Counter(
    "a2a_requests_total",
    "Requests that ended; code is OK, the reason of the error that the client got, or how a stream ended",
    binding=BINDINGS,
    operation=OPERATIONS,
    code=CODES,
)
REQUEST_SECONDS: Final = Histogram(
    "a2a_request_duration_seconds",
    "From a request's first byte to the last one of its answer; streams live as long as their clients want",
    _REQUEST_SECONDS,
    binding=BINDINGS,
    operation=OPERATIONS,
)
REQUESTS_IN_FLIGHT: Final = Gauge("a2a_requests_in_flight", "Requests being served, open streams included")
RATE_LIMITED: Final = Counter(
    "a2a_rate_limited_total",
    "Requests that were refused because there is too much: of an agent's queue, of open streams, of request bodies; or"
    " because one tenant or address asks for too much, too often or in too many streams",
    reason=(
        "queue",
        "streams",
        "bodies",
        "bodies_share",
        "tenant_rate",
        "tenant_streams",
        "address_rate",
        "address_streams",
    ),
)
USAGE_UNREADABLE: Final = Counter(
    "a2a_usage_unreadable_total", "Announcements of what other gateways' callers use that could not be read"
)
CONNECTIONS_REFUSED: Final = Counter(
    "a2a_connections_refused_total",
    "HTTP connections that were ended before a request was whole: URL or headers too large, too slow, or no HTTP",
    reason=("url", "headers", "slow", "malformed"),
)
AUTH_FAILURES: Final = Counter(
    "a2a_auth_failures_total",
    "Requests that were not let in",
    reason=("missing", "invalid", "expired", "revoked", "scope", "tenant", "foreign", "token", "host", "site"),
)

# --- streams to clients ----------------------------------------------------------------------------------------------
SSE_STREAMS: Final = Gauge("a2a_sse_streams", "Open streams, those over gRPC included", operation=STREAMS)
SSE_EVENTS: Final = Counter("a2a_sse_events_sent_total", "Updates that were written to streams")
SSE_DISCONNECTS: Final = Counter(
    "a2a_sse_disconnects_total",
    "Streams that ended; terminal: the task ended or waits for its client, which is how a stream should end",
    reason=("terminal", "client", "drain", "slow", "credential", "age", "error"),
)
SSE_RESUMES: Final = Counter(
    "a2a_sse_resume_total",
    "Streams that clients resumed by a cursor; hit: every update after it; snapshot: the log was made anew, so they got"
    " the task as it is; expired: the same, because retention has overtaken the cursor",
    result=("hit", "snapshot", "expired"),
)
SSE_LAG_SECONDS: Final = Histogram(
    "a2a_sse_event_lag_seconds",
    "From the time that the writer gave an update to when it was written to a stream that was open by then",
    _WAIT_SECONDS,
)

# --- the log ---------------------------------------------------------------------------------------------------------
EVENTS_APPENDED: Final = Counter("a2a_events_appended_total", "Events that this process has stored", type=None)
APPEND_SECONDS: Final = Histogram(
    "a2a_append_duration_seconds", "Until a record was durable, repetitions included", _APPEND_SECONDS
)
APPEND_CONFLICTS: Final = Counter(
    "a2a_append_conflicts_total",
    "Appends that NATS refused: 10071: another record stands there (decided again); 10164: another append of the task"
    " is being decided (sent again)",
    code=("10071", "10164"),
)
APPEND_DUPLICATES: Final = Counter(
    "a2a_append_duplicates_total", "Records that were sent again and turned out to be stored already"
)
APPEND_INDETERMINATE: Final = Counter(
    "a2a_append_indeterminate_total",
    "Appends whose answer was lost, and what the log said of them afterwards",
    resolved=("present", "absent", "conflict", "unknown"),
)
FOLD_SECONDS: Final = Histogram(
    "a2a_fold_duration_seconds", "Loading a task: its snapshot, and what came after it", _APPEND_SECONDS
)
UNKNOWN_EVENTS: Final = Counter(
    "a2a_unknown_events_total", "Events that were skipped because a later version has written them"
)
MIRROR_LAG_SECONDS: Final = Gauge(
    "a2a_mirror_lag_seconds",
    "What is read here of another region's log is at most so old; infinite: it was never seen even",
    log=None,
)
MIRROR_ACTIVE_SECONDS: Final = Gauge(
    "a2a_mirror_active_seconds",
    "Since the local mirror of another region's log last heard of it; NATS's own lag is 0 while it is cut off",
    log=None,
)

# --- tasks -----------------------------------------------------------------------------------------------------------
TASKS_CREATED: Final = Counter("a2a_tasks_created_total", "Tasks that this process has written")
TASKS_TERMINAL: Final = Counter("a2a_tasks_terminal_total", "Tasks that this process has ended", state=TERMINAL)
TASK_SECONDS: Final = Histogram(
    "a2a_task_duration_seconds",
    "From the message that a task's last turn began with to the task's end",
    _TASK_SECONDS,
    state=TERMINAL,
)
QUEUE_WAIT_SECONDS: Final = Histogram(
    "a2a_task_queue_wait_seconds",
    "From a message to its claim by a worker, of messages that were delivered once",
    _WAIT_SECONDS,
)
TASKS_ACTIVE: Final = Gauge("a2a_tasks_active", "Turns that this process runs agents for now")

# --- workers ---------------------------------------------------------------------------------------------------------
WORKER_LEASES: Final = Gauge(
    "a2a_worker_leases", "Deliveries that this worker holds: those it acts on, and those that wait with it"
)
WORKER_FENCED: Final = Counter(
    "a2a_worker_fenced_total", "Turns that this worker had to leave because another one has taken them over"
)
REDELIVERIES: Final = Counter(
    "a2a_redeliveries_total", "Deliveries to this worker that somebody had before: workers that died, or were too slow"
)
DEAD_LETTERS: Final = Counter(
    "a2a_dead_letters_total",
    "Given up: a task after all its attempts, a task that cannot be read (each time it is seen), a webhook",
    reason=("given_up", "unreadable", "webhook"),
)
LOOP_BLOCKED_SECONDS: Final = Gauge(
    "a2a_event_loop_blocked_seconds", "How long the event loop has not turned; an agent that blocks it shows here"
)
LOOP_BLOCKS: Final = Counter("a2a_event_loop_blocks_total", "How often code of an agent has blocked the event loop")

# --- webhooks --------------------------------------------------------------------------------------------------------
PUSH_ATTEMPTS: Final = Counter(
    "a2a_push_attempts_total",
    "Requests to webhooks, by what came of them",
    result=("taken", "refused", "unreachable", "timeout", "blocked", "sealed"),
)
PUSH_LAG_SECONDS: Final = Histogram(
    "a2a_push_lag_seconds",
    "From the time that the writer gave an update to when its webhook had taken it",
    _WAIT_SECONDS,
)
PUSH_BLOCKED: Final = Counter(
    "a2a_push_blocked_total", "Webhooks that were not called because they must not be", reason=("url", "address")
)

# --- the process -----------------------------------------------------------------------------------------------------
NATS_CONNECTED: Final = Gauge("a2a_nats_connected", "Connections to NATS that are up: 1 or 0 for one service")
NATS_RECONNECTS: Final = Counter("a2a_nats_reconnects_total", "How often the connection to NATS came back")
NATS_RTT_SECONDS: Final = Gauge("a2a_nats_rtt_seconds", "The last question to a leader of the log, and its answer")
NATS_CERTIFICATE_END: Final = Gauge(
    "a2a_nats_certificate_end_timestamp_seconds", "When the certificate ends that NATS has shown; 0 without TLS"
)
BUILD_INFO: Final = Gauge("a2a_build_info", "Always 1; the labels say what runs", version=None, commit=None)

ALL: Final[tuple[Metric, ...]] = tuple(found for found in list(globals().values()) if isinstance(found, Metric))
