"""Who is let in no more, whatever vouches for them: a file that operators write, read again when it changes.

A line is ``subject NAME``, ``tenant NAME`` or ``credential ID``, the id of an API key or the ``jti`` of a token.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from a2a_events.bindings.identity.kept_file import KeptFile
from a2a_events.bindings.identity.port import Identified, is_name

_KINDS: Final = ("subject", "tenant", "credential")
_BLANKS: Final = " \t\r"


class RevocationsDamaged(ValueError):
    """A line of the file is none; the message says which."""


class Revocations:
    """What is withdrawn.

    Args:
        path: of the file.

    Raises:
        OSError: it cannot be read.
        RevocationsDamaged: it holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._file = KeptFile(path, parse)

    def cover(self, who: Identified) -> bool:
        """Whether somebody is let in no more. No round trip."""
        names = {"subject": who.subject, "tenant": who.tenant or "", "credential": who.credential}
        return any((kind, name) in self._file.content for kind, name in names.items() if name)


def parse(content: bytes) -> frozenset[tuple[str, str]]:
    """What a file says. Empty lines and those that begin with ``#`` are left out.

    Raises:
        RevocationsDamaged: a line says nothing that is known.
    """
    found: set[tuple[str, str]] = set()
    for number, raw in enumerate(content.split(b"\n"), 1):
        try:
            line = raw.decode().strip(_BLANKS)
        except UnicodeDecodeError:
            raise RevocationsDamaged(f"line {number} is not UTF-8") from None
        if not line or line.startswith("#"):
            continue
        kind, _, name = line.partition(" ")
        name = name.strip(_BLANKS)
        if kind not in _KINDS or not is_name(name):
            raise RevocationsDamaged(f"line {number} is not {', '.join(_KINDS)} and a name as credentials have them")
        found.add((kind, name))
    return frozenset(found)
