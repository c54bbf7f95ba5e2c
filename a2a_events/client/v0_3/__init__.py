"""A2A 0.3, for agents whose card offers nothing newer: the client's operations in the words of 0.3 and back.

``read`` turns what a 0.3 server answers into the JSON of 1.0, ``write`` turns requests of 1.0 into what it takes; both
are pure. ``bindings`` are the two bindings made of them. Nothing outside this package knows that there is a 0.3.

What 0.3 cannot say is lost on the way: the media type and file name of a text or data part, and more than one kind of
authentication for a webhook. It has no list of tasks: that operation is refused without a request.
"""

from __future__ import annotations

from a2a_events.client.v0_3.bindings import HttpJson, JsonRpc

__all__ = ["HttpJson", "JsonRpc"]
