"""The pure core: what happened to one task, and what may happen next. No I/O, no clock, no ids, no environment.

Words: an *event* is an immutable fact about one task; a *record* holds one or more events of one task and is what the
log stores at a *position*; the *timeline* is the events of one task, numbered by *revision* 1, 2, 3 … without gaps; the
*fold* of a timeline is the task.

``events`` is the closed union of facts, ``record`` how a writer packs them, ``fold`` what they amount to, ``decide``
what may be appended, ``render`` what a client sees, ``cursor`` where a reader stands, ``ids`` how a task is named.
"""
