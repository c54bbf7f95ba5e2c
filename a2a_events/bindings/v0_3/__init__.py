"""A2A 0.3, at the edge: how its requests are read and how results are written. The log and the core know 1.0 alone.

``names`` are its methods, states and roles, ``requests`` reads. ``objects`` holds what its two spellings have in
common: ``schema`` is the one of JSON-RPC and webhooks, ``proto`` the one of HTTP+JSON. ``card`` writes cards,
``errors`` errors, ``configs`` the operations on webhooks that it asks for differently; ``dialects`` puts it together.
"""
