"""Reading what servers answer: objects, updates, and errors as the classes of ``a2a_events.errors``."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from a2a_events.client.errors import BadAnswer
from a2a_events.client.retry import parse_retry_after
from a2a_events.errors import (
    A2A_ERRORS,
    A2AError,
    ContentTypeNotSupportedError,
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    MethodNotFoundError,
    ParseError,
    PayloadTooLargeError,
    PermissionDeniedError,
    TaskNotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from a2a_events.model import StreamResponse, decode

T = TypeVar("T")

TEMPORARY: Final = frozenset({429, 502, 503, 504})
"""HTTP statuses of a server, or a proxy before it, that may do better soon."""

_BY_REASON: Final = {error.reason: error for error in A2A_ERRORS}
_BY_CODE: Final = {error.jsonrpc_code: error for error in reversed(A2A_ERRORS)}
_BY_STATUS: Final[dict[int, type[A2AError]]] = {
    400: InvalidRequestError,
    401: UnauthenticatedError,
    403: PermissionDeniedError,
    404: MethodNotFoundError,
    405: MethodNotFoundError,
    413: PayloadTooLargeError,
    415: ContentTypeNotSupportedError,
    500: InternalError,
    501: MethodNotFoundError,
}
_UPDATES: Final = frozenset(StreamResponse.__struct_encode_fields__)


class Answer(Struct, frozen=True):
    """A whole HTTP answer. Header names are in lower case."""

    url: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is a success."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


def read(raw: bytes, of: type[T]) -> T:
    """One object of the protocol.

    Deeper nesting than a server accepts from clients is no reason to refuse: what we said comes back inside more.

    Raises:
        BadAnswer: this is no such object.
    """
    try:
        return msgspec.json.decode(raw, type=of)
    except (ValueError, RecursionError):
        pass  # malformed, or spelled in a way that the tolerant reading knows
    try:
        return decode(raw, of)
    except (ParseError, InvalidParamsError) as error:
        where = "; ".join(f"{field or 'it'}: {text}" for field, text in error.violations)
        raise BadAnswer(f"The server's {of.__name__} cannot be read ({where or error.message})") from error


def read_with(blank: dict[str, Any], raw: bytes, of: type[T]) -> T:
    """One object whose required members may have been left out because they are empty, as ProtoJSON does.

    Raises:
        BadAnswer: this is no such object.
    """
    try:
        members = msgspec.json.decode(raw, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"The server's {of.__name__} is not a JSON object") from error
    return read(msgspec.json.encode(blank | members), of)


def read_update(raw: bytes) -> StreamResponse | None:
    """One update; None if it is of a kind that this version does not know.

    Raises:
        BadAnswer: an update of a known kind cannot be read.
    """
    try:
        return read(raw, StreamResponse)
    except BadAnswer:
        try:
            members = msgspec.json.decode(raw, type=dict[str, Raw])
        except (ValueError, RecursionError):
            members = {name: Raw() for name in _UPDATES}
        if _UPDATES.isdisjoint(members):
            return None
        raise


class _Violation(Struct):
    field: str = ""
    description: str = ""


class _Detail(Struct, rename="camel"):
    type: str = msgspec.field(name="@type", default="")
    reason: str = ""
    metadata: dict[str, Any] = {}
    field_violations: list[_Violation] = []


class _Fault(Struct):
    code: int = 0
    message: str = ""
    status: str = ""
    data: Raw = Raw()
    details: Raw = Raw()


class _Faulty(Struct):
    error: _Fault


def error_of(answer: Answer) -> A2AError:
    """The error that an unsuccessful answer tells of, in any binding.

    What decides, in this order: the reason of ``google.rpc.ErrorInfo``, a status that means "later", the JSON-RPC code,
    the HTTP status. What is unknown becomes a plain ``A2AError``; a foreign reason is kept in its ``metadata``.
    """
    try:
        fault = msgspec.json.decode(answer.body, type=_Faulty).error
    except (ValueError, RecursionError):
        fault = _Fault()
    details = _details(fault.data) or _details(fault.details)
    info = next((d for d in details if d.type.endswith("google.rpc.ErrorInfo")), _Detail())
    message = fault.message or f"{answer.url} answered {_phrase(answer.status)}"
    metadata = {name: value if isinstance(value, str) else str(value) for name, value in info.metadata.items()}
    kind = _kind(info.reason, fault, answer.status)
    if info.reason and kind.reason != info.reason:
        metadata.setdefault("reason", info.reason)
    if challenge := answer.headers.get("www-authenticate"):
        metadata.setdefault("www-authenticate", challenge)
    if issubclass(kind, UnavailableError):
        unavailable = kind(
            fault.message or f"{message}: whether this call took effect is not known",
            retry_after_seconds=math.ceil(parse_retry_after(answer.headers.get("retry-after"))),
        )
        unavailable.metadata = metadata
        return unavailable
    violations = tuple((v.field, v.description) for d in details for v in d.field_violations)
    return kind(message, metadata=metadata, violations=violations)


def refused(answer: Answer) -> Exception:
    """What to raise for an answer that is not a success: the server's error, unless it is a redirect."""
    if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
        target = answer.headers.get("location", "nowhere")
        return BadAnswer(f"{answer.url} redirects to {target}: give the client that address")
    return error_of(answer)


def error_in(body: bytes) -> A2AError:
    """The error that a frame in mid-stream tells of."""
    return error_of(Answer("The server", 0, {}, body))


def _kind(reason: str, fault: _Fault, status: int) -> type[A2AError]:
    if reason in _BY_REASON:
        return _BY_REASON[reason]
    status = status if status > HTTPStatus.OK else fault.code  # google.rpc.Status repeats the HTTP status
    if status in TEMPORARY:
        return UnavailableError
    if fault.code in _BY_CODE:
        return _BY_CODE[fault.code]
    if fault.status == TaskNotFoundError.grpc_status:
        return TaskNotFoundError
    return _BY_STATUS.get(status, A2AError)


def _details(raw: Raw) -> list[_Detail]:
    try:
        return msgspec.json.decode(raw, type=list[_Detail])
    except (ValueError, RecursionError):
        return []  # absent, or the object that 0.3 had here


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"with status {status}" if status else "with an error"
