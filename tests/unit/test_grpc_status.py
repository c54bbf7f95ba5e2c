"""Errors of the gRPC binding, as values."""

from __future__ import annotations

import pytest

pytest.importorskip("grpc_reflection", reason="the extra grpc is not installed")

from google.protobuf.json_format import MessageToDict
from grpc import StatusCode

from a2a_events import limits
from a2a_events.bindings.errors import details
from a2a_events.bindings.grpc.status import status_of
from a2a_events.errors import A2A_ERRORS, A2AError, InvalidParamsError, UnavailableError


@pytest.mark.parametrize("error", A2A_ERRORS)
def test_every_error_has_its_code_and_the_details_of_the_other_bindings(error: type[A2AError]) -> None:
    shown = MessageToDict(status_of(error()))
    assert (StatusCode[error.grpc_status].value[0], error.default_message) == (shown["code"], shown["message"])
    assert details(error()) == shown["details"][:1]


def test_metadata_and_fields_are_shown() -> None:
    error = InvalidParamsError("no", metadata={"taskId": "t"}, violations=(("id", "is not an id"), ("x", "")))
    shown = MessageToDict(status_of(error))["details"]
    assert {"taskId": "t"} == shown[0]["metadata"]
    assert [{"field": "id", "description": "is not an id"}, {"field": "x"}] == shown[1]["fieldViolations"]


def test_a_temporary_error_says_when_to_retry() -> None:
    (_, retry) = MessageToDict(status_of(UnavailableError(retry_after_seconds=7)))["details"]
    assert {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"} == retry


@pytest.mark.parametrize("character", ["x", "ü", "🂡"])
def test_a_status_is_bounded_whatever_an_error_says(character: str) -> None:
    error = InvalidParamsError(character * 10_000, violations=(("field", character * 10_000),))
    status = status_of(error)
    assert status.ByteSize() <= limits.STATUS_BYTES
    assert 0 < len(status.message.encode()) <= limits.STATUS_MESSAGE_BYTES
    assert set(character) == set(status.message)
    assert "INVALID_PARAMS" == MessageToDict(status)["details"][0]["reason"]
