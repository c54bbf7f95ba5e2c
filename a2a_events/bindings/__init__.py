"""HTTP in front of the operations: JSON-RPC, HTTP+JSON, server-sent events, the agent card. Thin: translate and frame.

``app`` puts the routes together, ``jsonrpc`` and ``http_json`` are the two bindings, ``exchange`` reads bodies and
writes answers, ``sse`` frames streams, ``errors`` shapes errors, ``negotiation`` reads versions, ``card`` serves the
card. Older forms of the protocol are a ``dialect`` each: ``v0_3`` and ``fasta2a``, made of the tables of ``shape``.
"""
