"""The log on NATS JetStream. Everything that is known of NATS is known here (design 3–6; tried on nats-server 2.15).

``names`` holds subjects, streams, headers and error codes; ``connection`` speaks to the server and survives it;
``wire`` is the seam to nats-py; ``streams`` creates and verifies what the log needs; ``log`` is the port;
``dispatch`` hands out work. ``regional`` is the port over the logs of several regions, ``foreign`` the log of another
one, and ``mirrors`` makes what those need here.
"""

from __future__ import annotations

from a2a_events.log.jetstream.connection import Connection
from a2a_events.log.jetstream.log import JetStreamLog
from a2a_events.log.jetstream.mirrors import provision_mirrors
from a2a_events.log.jetstream.names import Names
from a2a_events.log.jetstream.regional import RegionalLog, open_regional
from a2a_events.log.jetstream.streams import Inspected, StreamSettings, inspect, provision

__all__ = [
    "Connection",
    "Inspected",
    "JetStreamLog",
    "Names",
    "RegionalLog",
    "StreamSettings",
    "inspect",
    "open_regional",
    "provision",
    "provision_mirrors",
]
