"""The scripted agent, declared as what it is in a benchmark: it replies with tasks only, the library's default.

The demo agent may also reply with a bare Message, so its gateway shows nothing before its first words. The other
servers' agents send their Task at once.
"""

from __future__ import annotations

import msgspec

from a2a_events.agents.scripted import scripted as _demo

scripted = msgspec.structs.replace(_demo, replies="task")
