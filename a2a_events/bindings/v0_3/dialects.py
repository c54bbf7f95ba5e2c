"""A2A 0.3 over its two HTTP bindings."""

from __future__ import annotations

from typing import Final

import msgspec

from a2a_events.bindings.dialect import Dialect
from a2a_events.bindings.v0_3 import configs, proto, requests, schema
from a2a_events.bindings.v0_3.errors import error
from a2a_events.bindings.v0_3.names import METHODS

JSONRPC: Final = Dialect(
    name="0.3",
    version="0.3",
    methods=METHODS,
    requests=requests.JSONRPC,
    results=schema.RESULTS,
    update=schema.update,
    unary={
        "GetTaskPushNotificationConfig": configs.get,
        "ListTaskPushNotificationConfigs": configs.page,
    },
    error=error,
    extension_headers=(b"x-a2a-extensions", b"a2a-extensions"),
    refuses_in_streams=True,
)
"""In the spelling of its JSON schema."""

HTTP_JSON: Final = msgspec.structs.replace(
    JSONRPC, requests=requests.HTTP_JSON, results=proto.RESULTS, update=proto.update
)
"""In the spelling of its proto."""
