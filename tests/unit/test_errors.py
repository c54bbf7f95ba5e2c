"""The errors that clients see are the protocol's table, and nothing else."""

from __future__ import annotations

import pytest

from a2a_events import errors
from a2a_events.errors import A2A_ERRORS, A2AError, InvalidParamsError, LogError, UnavailableError

# reason, JSON-RPC, HTTP and gRPC of A2A 1.0.1; below the line what JSON-RPC, HTTP and this server add.
TABLE = [
    ("TaskNotFoundError", "TASK_NOT_FOUND", -32001, 404, "NOT_FOUND"),
    ("TaskNotCancelableError", "TASK_NOT_CANCELABLE", -32002, 400, "FAILED_PRECONDITION"),
    ("PushNotificationNotSupportedError", "PUSH_NOTIFICATION_NOT_SUPPORTED", -32003, 400, "FAILED_PRECONDITION"),
    ("UnsupportedOperationError", "UNSUPPORTED_OPERATION", -32004, 400, "FAILED_PRECONDITION"),
    ("ContentTypeNotSupportedError", "CONTENT_TYPE_NOT_SUPPORTED", -32005, 400, "INVALID_ARGUMENT"),
    ("InvalidAgentResponseError", "INVALID_AGENT_RESPONSE", -32006, 500, "INTERNAL"),
    ("ExtendedAgentCardNotConfiguredError", "EXTENDED_AGENT_CARD_NOT_CONFIGURED", -32007, 400, "FAILED_PRECONDITION"),
    ("ExtensionSupportRequiredError", "EXTENSION_SUPPORT_REQUIRED", -32008, 400, "FAILED_PRECONDITION"),
    ("VersionNotSupportedError", "VERSION_NOT_SUPPORTED", -32009, 400, "FAILED_PRECONDITION"),
    ("TaskGenerationMismatchError", "TASK_GENERATION_MISMATCH", -32010, 409, "ABORTED"),
    ("ParseError", "PARSE_ERROR", -32700, 400, "INVALID_ARGUMENT"),
    ("InvalidRequestError", "INVALID_REQUEST", -32600, 400, "INVALID_ARGUMENT"),
    ("MethodNotFoundError", "METHOD_NOT_FOUND", -32601, 404, "UNIMPLEMENTED"),
    ("InvalidParamsError", "INVALID_PARAMS", -32602, 400, "INVALID_ARGUMENT"),
    ("PayloadTooLargeError", "PAYLOAD_TOO_LARGE", -32602, 413, "INVALID_ARGUMENT"),
    ("UnsupportedEncodingError", "UNSUPPORTED_ENCODING", -32600, 415, "INVALID_ARGUMENT"),
    ("UnsupportedMediaTypeError", "UNSUPPORTED_MEDIA_TYPE", -32005, 415, "INVALID_ARGUMENT"),
    ("InternalError", "INTERNAL_ERROR", -32603, 500, "INTERNAL"),
    ("UnavailableError", "UNAVAILABLE", -32603, 503, "UNAVAILABLE"),
    ("TooManyRequestsError", "TOO_MANY_REQUESTS", -32603, 429, "RESOURCE_EXHAUSTED"),
    ("UnauthenticatedError", "UNAUTHENTICATED", -32603, 401, "UNAUTHENTICATED"),
    ("PermissionDeniedError", "PERMISSION_DENIED", -32603, 403, "PERMISSION_DENIED"),
]
JSONRPC_MESSAGES = {
    "ParseError": "Invalid JSON payload",
    "InvalidRequestError": "Request payload validation error",
    "MethodNotFoundError": "Method not found",
    "InvalidParamsError": "Invalid parameters",
    "InternalError": "Internal error",
}


def descendants(of: type[Exception]) -> set[type[Exception]]:
    return {cls for child in of.__subclasses__() for cls in {child, *descendants(child)}}


def test_the_errors_are_the_protocol_s_table() -> None:
    assert TABLE == [(e.__name__, e.reason, e.jsonrpc_code, e.http_status, e.grpc_status) for e in A2A_ERRORS]


def test_every_error_for_clients_is_in_the_table() -> None:
    assert {cls for cls in descendants(A2AError) if cls.__module__ == errors.__name__} == set(A2A_ERRORS)


def test_no_two_errors_share_a_reason() -> None:
    assert len(A2A_ERRORS) == len({error.reason for error in A2A_ERRORS})


@pytest.mark.parametrize(("name", "message"), JSONRPC_MESSAGES.items())
def test_the_five_errors_of_json_rpc_have_the_standard_messages(name: str, message: str) -> None:
    assert message == getattr(errors, name)().message


@pytest.mark.parametrize("error", A2A_ERRORS)
def test_an_error_made_without_words_has_a_sentence(error: type[A2AError]) -> None:
    made = error()
    assert error.default_message == made.message == str(made)
    assert ({}, ()) == (made.metadata, made.violations)


def test_an_error_keeps_its_own_sentence_and_fields() -> None:
    made = InvalidParamsError("no", metadata={"taskId": "t"}, violations=(("id", "is not an id"),))
    assert ("no", {"taskId": "t"}, (("id", "is not an id"),)) == (made.message, made.metadata, made.violations)


def test_a_temporary_error_says_when_to_retry() -> None:
    assert 1 == UnavailableError().retry_after_seconds
    assert 7 == UnavailableError(retry_after_seconds=7).retry_after_seconds


def test_errors_of_the_log_are_never_errors_for_clients() -> None:
    assert {
        *("Conflict", "Unavailable", "Unreachable", "Uncertain"),
        *("Forbidden", "NotProvisioned", "RecordTooLarge", "Unreadable"),
    } == {cls.__name__ for cls in descendants(LogError) if cls.__module__ == errors.__name__}
    assert not any(issubclass(cls, A2AError) for cls in descendants(LogError))
