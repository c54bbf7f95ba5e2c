"""API keys: long random secrets, of which a file holds the hashes.

A key is ``a2ak_<id>.<secret>``. Its line in the file is a JSON object: id, hash of the secret, whose it is, what it
may.
The secret has 256 random bits, so one SHA-256 is as good a hash as any: there is nothing to guess. The file is read
again when it changes, so keys come and go without a restart. To rotate one, have two lines for the same subject.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from a2a_events import limits
from a2a_events.bindings.identity.kept_file import KeptFile
from a2a_events.bindings.identity.port import Identified, NotAuthenticated, Presented, Scope, is_name

HEADER: Final = "X-API-Key"
_KEY: Final = re.compile(r"a2ak_([a-z2-7]{12})\.([A-Za-z0-9_-]{43})")
_ID_BYTES: Final = 8
_SECRET_BYTES: Final = 32
_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")
_NOBODY: Final = "sha256:" + "0" * 64
"""What the secret of a key that is not known is compared with, so that it takes as long."""


class Key(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line of the file."""

    id: str
    hash: str
    """``sha256:`` and 64 hex digits, of the secret."""
    subject: str
    tenant: str = ""
    scopes: tuple[Scope, ...] = (Scope.READ, Scope.WRITE)
    expires: int | None = None
    """Seconds since 1970; None: never."""
    note: str = ""
    """For people."""

    def __post_init__(self) -> None:
        if not _HASH.fullmatch(self.hash):
            raise ValueError("hash must be sha256: and 64 hex digits")
        if not self.subject:
            raise ValueError("subject must not be empty")
        for text in filter(None, (self.subject, self.tenant)):
            if not is_name(text):
                raise ValueError(
                    f"a name has at most {limits.IDENTIFIER_CHARACTERS} characters, in Unicode's form NFC, without"
                    " blanks at its ends, control characters or ends of lines"
                )


class KeyFileDamaged(ValueError):
    """A line of the file is no key; the message says which and why."""


def new_key(
    subject: str,
    *,
    tenant: str = "",
    scopes: Sequence[Scope] = (Scope.READ, Scope.WRITE),
    expires: int | None = None,
    note: str = "",
) -> tuple[str, Key]:
    """A key, as its holder keeps it, and its line.

    Raises:
        ValueError: the subject is empty, or a name is none.
    """
    key_id = base64.b32encode(os.urandom(_ID_BYTES))[:12].decode().lower()
    secret = base64.urlsafe_b64encode(os.urandom(_SECRET_BYTES)).rstrip(b"=").decode()
    line = Key(
        id=key_id,
        hash=_hash(secret),
        subject=subject,
        tenant=tenant,
        scopes=tuple(scopes),
        expires=expires,
        note=note,
    )
    return f"a2ak_{key_id}.{secret}", line


def parse(content: bytes) -> dict[str, Key]:
    """The keys in a file, by id. Empty lines and those that begin with ``#`` are left out.

    Raises:
        KeyFileDamaged: a line is no key, or an id is there twice.
    """
    found: dict[str, Key] = {}
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        try:
            key = msgspec.json.decode(line, type=Key)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise KeyFileDamaged(f"line {number} is no API key: {error}") from None
        if key.id in found:
            raise KeyFileDamaged(f"line {number}: the key {key.id} is there twice")
        found[key.id] = key
    return found


def written(keys: Sequence[Key]) -> bytes:
    """Keys as a file."""
    return b"".join(msgspec.json.encode(key) + b"\n" for key in keys)


class ApiKeys:
    """Callers with keys.

    Args:
        path: of the file; see :class:`KeptFile`.

    Raises:
        OSError: it cannot be read now.
        KeyFileDamaged: it holds something else.
    """

    method = "api_key"
    schemes: Mapping[str, Any] = {"apiKey": {"apiKeySecurityScheme": {"location": "header", "name": HEADER}}}
    challenges: Sequence[str] = (f'ApiKey realm="a2a", header="{HEADER}"',)

    def __init__(self, path: Path) -> None:
        self._file = KeptFile(path, parse)

    def presents(self, presented: Presented) -> bool:
        """See :class:`~a2a_events.bindings.identity.port.Method`."""
        return bool(presented.values(HEADER.lower()))

    async def authenticate(self, presented: Presented) -> Identified:
        """See :class:`~a2a_events.bindings.identity.port.Identity`. No round trip."""
        given = presented.one(HEADER.lower())
        if not given:
            raise NotAuthenticated("missing", f"An API key is needed, in the header {HEADER}")
        shape = _KEY.fullmatch(given)
        if shape is None:
            raise NotAuthenticated("invalid")
        key = self._file.content.get(shape[1])
        if not hmac.compare_digest(_hash(shape[2]), key.hash if key is not None else _NOBODY) or key is None:
            raise NotAuthenticated("invalid", claimed=shape[1])
        return Identified(
            subject=key.subject,
            tenant=key.tenant,
            scopes=frozenset(key.scopes),
            expires_at=key.expires,
            method=self.method,
            credential=key.id,
        )

    def holds(self, who: Identified) -> bool:
        """Whether the key is still in the file, and its holder as before."""
        key = self._file.content.get(who.credential)
        if key is None or (key.expires is not None and key.expires <= time.time()):
            return False
        return (key.subject, key.tenant) == (who.subject, who.tenant) and who.scopes <= frozenset(key.scopes)


def _hash(secret: str) -> str:
    return "sha256:" + hashlib.sha256(secret.encode()).hexdigest()
