"""The stores of an a2a-sdk server (``a2a.server.cluster``) on the log: many replicas, nothing polled (ADR 0032).

The server and its executor stay as they are. Their tasks become timelines of the log, which every tool for timelines
shows. ``services.a2a_cluster`` opens a :class:`Cluster` on JetStream; needs the extra ``a2a-sdk``.
"""

from __future__ import annotations

from a2a_events.adapters.a2a_cluster.cluster import Cluster
from a2a_events.adapters.a2a_cluster.context_builder import StoredContextBuilder
from a2a_events.adapters.a2a_cluster.event_stream import LogTaskEventStream
from a2a_events.adapters.a2a_cluster.push_configs import LogPushConfigStore
from a2a_events.adapters.a2a_cluster.task_store import LogTaskStore

__all__ = ["Cluster", "LogPushConfigStore", "LogTaskEventStream", "LogTaskStore", "StoredContextBuilder"]
