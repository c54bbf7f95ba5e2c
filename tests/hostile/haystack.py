"""Everything that a deployment says, keeps and shows, to be searched for what must not be in it."""

from __future__ import annotations

import base64
import gzip
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path


def forms(secret: bytes) -> list[bytes]:
    """A secret as it would stand in a text: itself, hexadecimal, and base64 wherever in a longer text it begins."""
    found = [secret, secret.hex().encode(), secret.hex().upper().encode()]
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret)
        middle = encoded[4 if before else 0 : len(encoded) // 4 * 4 - 4]
        found += [middle, middle.translate(bytes.maketrans(b"+/", b"-_"))]
    return found


class Haystack:
    """What was collected, by where it was."""

    def __init__(self) -> None:
        self._collected: dict[str, list[tuple[str, bytes]]] = defaultdict(list)

    def add(self, surface: str, name: str, content: bytes | str) -> None:
        """One piece; what is compressed is searched as it was before."""
        raw = content.encode(errors="surrogateescape") if isinstance(content, str) else content
        self._collected[surface].append((name, raw))
        if raw[:2] == b"\x1f\x8b":
            try:
                self._collected[surface].append((f"{name} (unpacked)", gzip.decompress(raw)))
            except (OSError, zlib.error):
                pass  # not whole

    def add_folder(self, surface: str, folder: Path, without: Iterable[Path] = ()) -> None:
        """Every file below a folder, but for those in which a secret has its place."""
        kept = {path.resolve() for path in without}
        for file in sorted(folder.rglob("*")):
            if file.is_file() and file.resolve() not in kept:
                self.add(surface, str(file.relative_to(folder)), file.read_bytes())

    @property
    def surfaces(self) -> set[str]:
        """Where something was."""
        return {surface for surface, pieces in self._collected.items() if any(content for _, content in pieces)}

    def last(self, surface: str) -> str:
        """The end of what was added there last, for people."""
        return self._collected[surface][-1][1][-2000:].decode(errors="replace")

    def found(self, secrets: Mapping[str, bytes]) -> list[tuple[str, str, str]]:
        """Where which secret stands: surface, piece, its name."""
        wanted = {name: forms(secret) for name, secret in secrets.items()}
        return [
            (surface, piece, name)
            for surface, pieces in self._collected.items()
            for piece, content in pieces
            for name, spellings in wanted.items()
            if any(spelling in content for spelling in spellings)
        ]
