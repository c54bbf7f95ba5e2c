"""What a dialect is: one form of the protocol in which requests come and results are shown.

The operations know one form, that of 1.0. Every other one is translated here, at the edge, by the tables of the module
that defines it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct, field

from a2a_events.bindings.methods import STREAMING, UNARY, Unary
from a2a_events.bindings.shape import Form
from a2a_events.errors import A2AError, InvalidParamsError
from a2a_events.model import decode, encode
from a2a_events.model.decode import canonical, convert, parse
from a2a_events.runtime.framing import Update
from a2a_events.runtime.operations import Run

Frame: TypeAlias = Callable[[Run], bytes]


def _as_it_is(error: A2AError) -> A2AError:
    return error


class Dialect(Struct, frozen=True, kw_only=True):
    """One form of the protocol."""

    name: str
    """As it is remembered with a task."""
    version: str
    """Of A2A."""
    methods: Mapping[str, str]
    """The operation that each method of JSON-RPC is."""
    requests: Mapping[str, Form] | None = None
    """For each operation, the members of its request in 1.0's form; None: they have it."""
    results: Mapping[str, Form] | None = None
    """For each operation, its result in this form; None: it has it."""
    update: Callable[[Any, bool], Any] | None = None
    """An update in this form, by whether the stream ends after it; None: it has it."""
    unary: Mapping[str, Unary] = field(default_factory=dict[str, Unary])
    """What answers an operation in place of the one of 1.0."""
    error: Callable[[A2AError], A2AError] = _as_it_is
    """What this form has for an error."""
    extension_headers: tuple[bytes, ...] = (b"a2a-extensions",)
    refuses_in_streams: bool = False
    """Whether clients of JSON-RPC find the error of a streaming method in a stream, and nowhere else."""

    def call(self, operation: str) -> Unary:
        """What answers an operation that is no stream."""
        return self.unary.get(operation) or UNARY[operation][1]

    def read(self, operation: str, content: bytes) -> Any:
        """The request in a JSON object.

        Raises:
            ParseError: it is not JSON.
            InvalidParamsError: it is not this request; ``violations`` names the field as 1.0 does.
        """
        if self.requests is None:
            return decode(content, request_type(operation))
        return self.made(operation, parse(content))

    def made(self, operation: str, members: Any, bound: Mapping[str, str] | None = None, *, strict: bool = True) -> Any:
        """The request of plain members.

        Args:
            operation: of which.
            members: as the client wrote them.
            bound: members in 1.0's form that win over these.
            strict: whether text is no number; it is one in a URL.

        Raises:
            InvalidParamsError: as :meth:`read`.
        """
        if not isinstance(members, dict):
            raise InvalidParamsError("The request must be an object")
        plain = canonical(members)
        if self.requests is not None:
            plain = canonical(self.requests[operation](plain))
        return convert({**plain, **canonical(bound or {})}, request_type(operation), strict=strict)

    def shown(self, operation: str, result: bytes) -> bytes:
        """A result of 1.0 in this form."""
        if self.results is None:
            return result
        return encode(self.results[operation](msgspec.json.decode(result)))

    def framed(self, frame: Frame) -> Frame:
        """Frames of a stream in this form. 1.0 shows the log's bytes; any other reads and writes each update."""
        form = self.update
        if form is None:
            return frame

        def translated(run: Run) -> bytes:
            end = run.updates[-1] if run.last and run.updates else None
            updates = [
                Update(shown.revision, shown.cursor, encode(form(msgspec.json.decode(shown.line), shown is end)))
                for shown in run.updates
            ]
            return frame(Run(updates, run.last))

        return translated


def request_type(operation: str) -> type[Any]:
    """What an operation takes."""
    return (UNARY[operation] if operation in UNARY else STREAMING[operation])[0]


V1_0: Final = Dialect(name="1.0", version="1.0", methods={name: name for name in (*UNARY, *STREAMING)})
"""The form that the log has and everything else is translated to."""
