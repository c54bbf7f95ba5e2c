"""Who asks, and what they may: identity, and authorization before anything is looked up.

``port`` says what an identity is, ``access`` is asked once for each request and for as long as a stream is open. The
adapters are ``anonymous`` (development), ``api_keys``, ``jwt`` on the keys of ``jwks``, ``proxy`` (what a trusted proxy
has verified, client certificates among it), and ``several`` of these side by side. ``revocations`` withdraws what any
of them has let in.
"""
