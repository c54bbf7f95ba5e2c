"""The algorithms that cards are signed with. Needs no extra, so that commands can name them in their help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

OF_KEYS: Final[Mapping[tuple[str, str], str]] = {
    ("OKP", "Ed25519"): "EdDSA",
    ("EC", "P-256"): "ES256",
    ("RSA", ""): "RS256",
}
"""By kind and curve of the key: an allow-list. Nothing symmetric, and nothing that is nobody's default."""
ALGORITHMS: Final = tuple(OF_KEYS.values())
"""Algorithms of signatures that are made and accepted, the one that we prefer first."""
