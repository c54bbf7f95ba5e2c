"""Every error of the library, as two small trees.

::

    Exception
    ├── A2AError                          what a client may see; one class per row of the protocol's table
    │   ├── TaskNotFoundError
    │   ├── TaskNotCancelableError
    │   ├── PushNotificationNotSupportedError
    │   ├── UnsupportedOperationError
    │   ├── ContentTypeNotSupportedError
    │   ├── InvalidAgentResponseError
    │   ├── ExtendedAgentCardNotConfiguredError
    │   ├── ExtensionSupportRequiredError
    │   ├── VersionNotSupportedError
    │   ├── ParseError, InvalidRequestError, MethodNotFoundError, InvalidParamsError   (the caller's fault)
    │   ├── PayloadTooLargeError          (the caller's fault, HTTP 413)
    │   ├── UnsupportedEncodingError, UnsupportedMediaTypeError   (the caller's fault, HTTP 415)
    │   ├── InternalError                 (ours)
    │   ├── UnavailableError              (ours, and temporary: carries ``retry_after_seconds``)
    │   │   └── TooManyRequestsError      (the caller's fault, HTTP 429)
    │   └── UnauthenticatedError, PermissionDeniedError
    └── LogError                          answers one question: may I retry?
        ├── Conflict                      nothing was written; read, decide again
        ├── Unavailable                   nothing was written; the same call may be repeated
        │   ├── NotProvisioned            the log's streams are not there: provision, then repeat
        │   └── Unreachable               the task's region is cut off: repeat much later
        ├── Uncertain                     may have been written; read first
        ├── Forbidden                     nothing was written; the operator must allow it first
        ├── RecordTooLarge                nothing was written; repeating cannot help
        └── Unreadable                    a record is damaged, or newer than this version; repeating cannot help

Programmer errors are assertions, not members of these trees.
"""

from __future__ import annotations

from typing import ClassVar


class A2AError(Exception):
    """An error of the protocol, safe to show to whoever called.

    The class gives the codes of every binding (A2A 1.0.1, section 5.4 and the tables of each binding), the instance
    gives the sentence and, for validation, the fields.

    Args:
        message: one sentence for the caller; says whose fault it was and what to do. Never holds internals.
        metadata: string members for ``google.rpc.ErrorInfo.metadata``, for example the task id asked for.
        violations: (field path, description) pairs for ``google.rpc.BadRequest``.
    """

    reason: ClassVar[str] = "INTERNAL_ERROR"
    jsonrpc_code: ClassVar[int] = -32603
    http_status: ClassVar[int] = 500
    grpc_status: ClassVar[str] = "INTERNAL"
    default_message: ClassVar[str] = "Internal error"

    def __init__(
        self,
        message: str | None = None,
        *,
        metadata: dict[str, str] | None = None,
        violations: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.message = message or self.default_message
        self.metadata = metadata or {}
        self.violations = violations
        super().__init__(self.message)


class TaskNotFoundError(A2AError):
    """No task with this id, or none that this caller may see: the two are never told apart, but to the audit log."""

    of_somebody_else = False
    """Whether it is there. Nothing that clients are shown, or when, may depend on it."""
    reason = "TASK_NOT_FOUND"
    jsonrpc_code = -32001
    http_status = 404
    grpc_status = "NOT_FOUND"
    default_message = "Task not found"


class TaskNotCancelableError(A2AError):
    """The task has already ended."""

    reason = "TASK_NOT_CANCELABLE"
    jsonrpc_code = -32002
    http_status = 400
    grpc_status = "FAILED_PRECONDITION"
    default_message = "Task cannot be canceled"


class PushNotificationNotSupportedError(A2AError):
    """The agent does not offer push notifications."""

    reason = "PUSH_NOTIFICATION_NOT_SUPPORTED"
    jsonrpc_code = -32003
    http_status = 400
    grpc_status = "FAILED_PRECONDITION"
    default_message = "Push notifications are not supported"


class UnsupportedOperationError(A2AError):
    """The operation is not offered, or not in this state of the task."""

    reason = "UNSUPPORTED_OPERATION"
    jsonrpc_code = -32004
    http_status = 400
    grpc_status = "FAILED_PRECONDITION"
    default_message = "This operation is not supported"


class ContentTypeNotSupportedError(A2AError):
    """A part's media type is not among the agent's input modes."""

    reason = "CONTENT_TYPE_NOT_SUPPORTED"
    jsonrpc_code = -32005
    http_status = 400
    grpc_status = "INVALID_ARGUMENT"
    default_message = "Incompatible content types"


class InvalidAgentResponseError(A2AError):
    """The agent broke the protocol; not the caller's fault."""

    reason = "INVALID_AGENT_RESPONSE"
    jsonrpc_code = -32006
    http_status = 500
    grpc_status = "INTERNAL"
    default_message = "Invalid agent response"


class ExtendedAgentCardNotConfiguredError(A2AError):
    """The card declares an extended card but none is configured."""

    reason = "EXTENDED_AGENT_CARD_NOT_CONFIGURED"
    jsonrpc_code = -32007
    http_status = 400
    grpc_status = "FAILED_PRECONDITION"
    default_message = "Extended agent card is not configured"


class ExtensionSupportRequiredError(A2AError):
    """The card requires an extension that the request does not declare."""

    reason = "EXTENSION_SUPPORT_REQUIRED"
    jsonrpc_code = -32008
    http_status = 400
    grpc_status = "FAILED_PRECONDITION"
    default_message = "A required extension was not declared in A2A-Extensions"


class VersionNotSupportedError(A2AError):
    """The A2A-Version asked for is not served here."""

    reason = "VERSION_NOT_SUPPORTED"
    jsonrpc_code = -32009
    http_status = 400
    grpc_status = "FAILED_PRECONDITION"
    default_message = "This A2A version is not supported"


class TaskGenerationMismatchError(A2AError):
    """The task has changed since the generation that the request names (A2A 1.1, behind a setting)."""

    reason = "TASK_GENERATION_MISMATCH"
    jsonrpc_code = -32010
    http_status = 409
    grpc_status = "ABORTED"
    default_message = "The task has changed since"


class ParseError(A2AError):
    """The body is not JSON."""

    reason = "PARSE_ERROR"
    jsonrpc_code = -32700
    http_status = 400
    grpc_status = "INVALID_ARGUMENT"
    default_message = "Invalid JSON payload"


class InvalidRequestError(A2AError):
    """The JSON is not a request of this binding."""

    reason = "INVALID_REQUEST"
    jsonrpc_code = -32600
    http_status = 400
    grpc_status = "INVALID_ARGUMENT"
    default_message = "Request payload validation error"


class MethodNotFoundError(A2AError):
    """No such method or path."""

    reason = "METHOD_NOT_FOUND"
    jsonrpc_code = -32601
    http_status = 404
    grpc_status = "UNIMPLEMENTED"
    default_message = "Method not found"


class InvalidParamsError(A2AError):
    """A parameter is missing, malformed or out of range; ``violations`` names the fields."""

    reason = "INVALID_PARAMS"
    jsonrpc_code = -32602
    http_status = 400
    grpc_status = "INVALID_ARGUMENT"
    default_message = "Invalid parameters"


class PayloadTooLargeError(InvalidParamsError):
    """The request, or the record it would become, is over the limit. Sending it again cannot help."""

    reason = "PAYLOAD_TOO_LARGE"
    http_status = 413
    default_message = "The request is larger than this server accepts"


class UnsupportedEncodingError(InvalidRequestError):
    """The request body is compressed, which this server does not read."""

    reason = "UNSUPPORTED_ENCODING"
    http_status = 415
    default_message = "Compressed request bodies are not accepted; send the body as it is"


class UnsupportedMediaTypeError(ContentTypeNotSupportedError):
    """The request body says that it is something else than JSON."""

    reason = "UNSUPPORTED_MEDIA_TYPE"
    http_status = 415
    default_message = "The request body must be application/json or application/a2a+json"


class InternalError(A2AError):
    """A fault of this server; the cause is in its log, never in the answer."""


class UnavailableError(A2AError):
    """A temporary fault of this server: repeat after ``retry_after_seconds``.

    Args:
        message: says whether the request may have taken effect.
        retry_after_seconds: shown to HTTP clients as ``Retry-After``.
        metadata: as for every error; ``UNTOUCHED`` says in a way that programs read that it took none.
    """

    UNTOUCHED: ClassVar[dict[str, str]] = {"effect": "none"}

    reason = "UNAVAILABLE"
    http_status = 503
    grpc_status = "UNAVAILABLE"
    default_message = "Temporarily unavailable; nothing was written, please retry"

    def __init__(
        self, message: str | None = None, *, retry_after_seconds: int = 1, metadata: dict[str, str] | None = None
    ) -> None:
        super().__init__(message, metadata=metadata)
        self.retry_after_seconds = retry_after_seconds

    @property
    def untouched(self) -> bool:
        """Whether the server says that the request took no effect, so that it may be sent again."""
        return self.metadata.items() >= self.UNTOUCHED.items()


class TooManyRequestsError(UnavailableError):
    """One caller asks for more than one may; arguments are those of every temporary error."""

    reason = "TOO_MANY_REQUESTS"
    http_status = 429
    grpc_status = "RESOURCE_EXHAUSTED"
    default_message = "Too many requests; nothing was done, please retry later"


class UnauthenticatedError(A2AError):
    """The server asked for credentials that were not given or not accepted."""

    reason = "UNAUTHENTICATED"
    http_status = 401
    grpc_status = "UNAUTHENTICATED"
    default_message = "Authentication is required"


class PermissionDeniedError(A2AError):
    """The credentials do not allow this."""

    reason = "PERMISSION_DENIED"
    http_status = 403
    grpc_status = "PERMISSION_DENIED"
    default_message = "Permission denied"


A2A_ERRORS: tuple[type[A2AError], ...] = (
    TaskNotFoundError,
    TaskNotCancelableError,
    PushNotificationNotSupportedError,
    UnsupportedOperationError,
    ContentTypeNotSupportedError,
    InvalidAgentResponseError,
    ExtendedAgentCardNotConfiguredError,
    ExtensionSupportRequiredError,
    VersionNotSupportedError,
    TaskGenerationMismatchError,
    ParseError,
    InvalidRequestError,
    MethodNotFoundError,
    InvalidParamsError,
    PayloadTooLargeError,
    UnsupportedEncodingError,
    UnsupportedMediaTypeError,
    InternalError,
    UnavailableError,
    TooManyRequestsError,
    UnauthenticatedError,
    PermissionDeniedError,
)
"""Every error a client may meet, in the order of the protocol's table."""


class LogError(Exception):
    """The log could not do what was asked; the subclass says whether to try again."""


class Conflict(LogError):
    """Somebody else's record stands at the expected position. Nothing was written: read, fold, decide again."""


class Unavailable(LogError):
    """The log did not take the call. Nothing was written: the same call may be repeated."""


class Forbidden(LogError):
    """The server does not let this process do that: nothing was written, and only its operator can change it."""


class NotProvisioned(Unavailable):
    """The log's streams are not there: provisioning helps, waiting does not."""


class Unreachable(Unavailable):
    """The region in which the task is written cannot be reached from here: waiting a moment does not help."""


class Uncertain(LogError):
    """No answer came: the record may be stored now, later or never. Read before deciding anything."""


class RecordTooLarge(LogError):
    """The record is over the log's ``content_bytes``. Nothing was written and repeating cannot help."""


class Unreadable(LogError):
    """A record that this version cannot fold past: damaged, missing, or critical and of a newer version."""
