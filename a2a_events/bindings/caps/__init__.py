"""How much one tenant, and one client address, may use: requests in time, and streams at once (ADR 0034).

``buckets`` counts requests, ``budget`` what is used of one kind of allowance, here and at other gateways, ``caps`` is
what bindings ask.
"""
