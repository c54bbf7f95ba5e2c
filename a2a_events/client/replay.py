"""The replay extension, from the client's side: where an update stands, told in its metadata.

A server that declares it says in the metadata of each update, under the extension's URI, which revision of the task the
update is, and the cursor that resumes after it. Over server-sent events ``id:`` carries the same cursor and comes
first; elsewhere (gRPC, webhooks) this is the only place.
"""

from __future__ import annotations

from typing import Any, Final, cast

from msgspec import Struct

from a2a_events.model import StreamResponse

REPLAY_EXTENSION: Final = "urn:a2a-events:replay:v1"
"""URI of the extension."""


class Mark(Struct, frozen=True):
    """Where an update stands. Either may be missing.

    Args:
        revision: of the task, counted from 1; a higher one is newer.
        cursor: resumes after the update.
    """

    revision: int | None = None
    cursor: str | None = None


def mark_of(response: StreamResponse) -> Mark:
    """What the update says about its place; an empty mark if it says nothing, or something that is no mark."""
    update = response.task or response.message or response.status_update or response.artifact_update
    given = (update.metadata or {}).get(REPLAY_EXTENSION) if update else None
    if not isinstance(given, dict):
        return Mark()
    members = cast("dict[str, Any]", given)
    revision, cursor = members.get("revision"), members.get("cursor")
    if isinstance(revision, float) and revision.is_integer():
        revision = int(revision)  # protobuf knows no other numbers
    return Mark(
        revision if isinstance(revision, int) and not isinstance(revision, bool) and revision > 0 else None,
        cursor if isinstance(cursor, str) and cursor else None,
    )
