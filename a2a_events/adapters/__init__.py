"""Agents that were written for other frameworks, unmodified, as agents of ours.

One module or package a framework, each behind an extra of its name. Each has ``agent_of(what the framework calls an
agent)``, which makes an :class:`~a2a_events.runtime.agent.Agent` of it, and ``recognises(value)``. ``recognise`` asks
them for whoever names a framework's object after ``--agent``. Nothing here imports a framework before it is used.
"""
