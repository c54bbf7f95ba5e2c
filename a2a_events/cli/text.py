"""What clients and agents wrote, as text for people: data that can do nothing to a terminal but be shown."""

from __future__ import annotations

import json
import sys

from a2a_events.model import Part, encode


def text_of(part: Part) -> str:
    """A part as people read it."""
    if isinstance(part.text, str):
        return part.text
    if isinstance(part.raw, bytes):
        return f"[{part.filename or 'file'}, {len(part.raw)} B]\n"
    if isinstance(part.url, str):
        return f"[{part.url}]\n"
    return encode(part.data).decode() + "\n"


def clean(text: str) -> str:
    """Text that can do nothing to a terminal but be shown: no control characters, no marks that turn its direction."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def one_line(text: str) -> str:
    """As :func:`clean`, and on one line, so that what follows is ours."""
    return "".join(c if c.isprintable() else "�" for c in text)


def json_text(encoded: bytes) -> str:
    """JSON as it is; on a terminal the same with escapes for what would control it, which JSON leaves as it is."""
    text = encoded.decode()
    if not sys.stdout.isatty():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def said(parts: tuple[Part, ...], indent: str = "  ") -> str:
    """What parts say, each line of it indented, so that it cannot be taken for ours."""
    text = clean("".join(text_of(part) for part in parts)).replace("\t", "    ")
    return "\n".join(f"{indent}{line}" for line in text.rstrip("\n").split("\n"))
