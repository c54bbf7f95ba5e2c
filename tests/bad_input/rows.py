"""The list of bad inputs: every row of every group, so that ``test_rows`` can say which one nobody tests.

A test carries a row by its id, ``row-49-star``. Group E has ids of its own (``test_identity``, ``test_isolation``,
``test_token_lifetime``).
"""

from __future__ import annotations

from typing import Final

import httpx
from msgspec import Struct

from tests.interop.wire import JSONRPC, Failure, failure

FRAMING: Final = {
    1: "empty body",
    2: "truncated JSON",
    4: "UTF-16, or with a byte order mark",
    5: "nested 100,000 deep",
    7: "body over the limit, with its length",
    8: "chunked body that grows over the limit",
    10: "Content-Length and Transfer-Encoding",
    11: "compressed bomb",
    13: "NaN, Infinity, 1e999",
    14: "integer of 10,000 digits",
    16: "100,000 keys",
    17: "lone surrogate",
    19: "__proto__ and __class__ as keys of metadata",
    20: "another verb than the path has",
    22: "URL of 64 KB, header of 32 KB, 500 headers",
}
ENVELOPE: Final = {
    23: "another jsonrpc, or none",
    25: "unknown method",
    26: "id that is no id",
    28: "notification",
    29: "params that are no object",
}
FIELDS: Final = {
    31: "no message",
    32: "no parts",
    34: "messageId that is none",
    35: "role that is not the user's",
    37: "historyLength that is none",
    38: "pageSize that is none",
    40: "statusTimestampAfter that is none",
    41: "raw that is not base64",
    43: "unknown members",
    44: "version that is not served",
    46: "required extension that was not asked for",
    47: "one Idempotency-Key, many times",
}
IDENTIFIERS: Final = {
    49: "*",
    50: ">",
    52: "dots",
    53: "white space and control characters",
    55: "subjects of the server",
    56: "5,000 characters",
    58: "contextId with any of these",
    59: "tenant that is not the caller's",
    61: "contextId that is not the task's",
    62: "message for a task that has ended",
    64: "messageId or key of another tenant",
}
IDENTITY: Final = {
    65: "no credentials",
    67: "HMAC with the public key",
    68: "another audience or issuer",
    70: "unknown key ids",
    71: "key ids that are paths",
    73: "crit, two signatures, junk",
    74: "ID token",
    76: "somebody else's task",
    77: "two credentials",
    79: "forged headers of proxies",
    80: "token that expires during a stream",
    82: "extended card without credentials",
}
WEBHOOKS: Final = {
    83: "other schemes",
    85: "metadata services",
    86: "private and reserved networks",
    88: "IPv4 inside IPv6",
    89: "user names and tricks with @",
    91: "name that means another address the second time",
    92: "name of public and private addresses",
    94: "ports of other protocols",
    95: "names of the cluster",
    97: "receiver that drips, floods or hangs",
    98: "too many webhooks, or too long an URL",
    100: "not offered",
}
STREAMS: Final = {
    101: "headers that come a byte at a time",
    103: "reader that never reads",
    104: "one stream too many",
    106: "Last-Event-ID that is none",
    107: "subscription to what has ended, or is not there",
    109: "history of 100,000 messages",
    110: "artifact without end",
    112: "HTTP/2 rapid reset",
}
HEADERS: Final = {
    113: "malformed traceparent",
    115: "headers named like those of NATS",
    116: "metadata named like headers of NATS",
    118: "credentials in logs, traces, errors",
    119: "another Host",
    121: "CORS preflight",
    122: "what operators see, on the public port",
}
ALL: Final = {**FRAMING, **ENVELOPE, **FIELDS, **IDENTIFIERS, **IDENTITY, **WEBHOOKS, **STREAMS, **HEADERS}


class Refusal(Struct, frozen=True):
    """What a refusal looks like in either binding."""

    jsonrpc_code: int
    http_status: int
    """Of HTTP+JSON; that of JSON-RPC too where ``by_http``."""
    reason: str
    by_http: bool = False
    """Whether JSON-RPC says it with the status too."""

    def check(self, binding: str, response: httpx.Response) -> list[str]:
        """That a response is this refusal; the fields that it names."""
        refused = failure(binding, response)
        assert (self.reason, self.jsonrpc_code if binding == JSONRPC else self.http_status) == (
            refused.reason,
            refused.code,
        ), refused.body
        status = 200 if binding == JSONRPC and not self.by_http else self.http_status
        assert status == refused.http_status
        return refused.fields


PARSE: Final = Refusal(-32700, 400, "PARSE_ERROR")
REQUEST: Final = Refusal(-32600, 400, "INVALID_REQUEST")
METHOD: Final = Refusal(-32601, 404, "METHOD_NOT_FOUND")
PARAMS: Final = Refusal(-32602, 400, "INVALID_PARAMS")
NOT_FOUND: Final = Refusal(-32001, 404, "TASK_NOT_FOUND")
NO_PUSH: Final = Refusal(-32003, 400, "PUSH_NOTIFICATION_NOT_SUPPORTED")
UNSUPPORTED: Final = Refusal(-32004, 400, "UNSUPPORTED_OPERATION")
EXTENSION: Final = Refusal(-32008, 400, "EXTENSION_SUPPORT_REQUIRED")
VERSION: Final = Refusal(-32009, 400, "VERSION_NOT_SUPPORTED")
OTHER_TENANT: Final = Refusal(-32603, 403, "PERMISSION_DENIED", by_http=True)


def check_refused(binding: str, response: httpx.Response, codes: set[int], statuses: set[int]) -> Failure:
    """That a response is a refusal: with one of these codes in JSON-RPC, of these statuses in HTTP+JSON."""
    refused = failure(binding, response)
    assert refused.code in (codes if binding == JSONRPC else statuses), refused.body
    return refused


def with_header(request: httpx.Request, name: bytes, value: bytes) -> httpx.Request:
    """A request with one header more, even one that is there already."""
    request.headers = httpx.Headers([*request.headers.raw, (name, value)])
    return request
