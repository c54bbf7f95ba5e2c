"""``api-key``: keys for callers, and the file with their hashes."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from a2a_events.cli import kept
from a2a_events.cli.outcome import Failure, say

if TYPE_CHECKING:
    from a2a_events.bindings.identity.api_keys import Key

_FILE: Final = click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    envvar="A2A_EVENTS_AUTH_API_KEYS",
    show_envvar=True,
    help="The file with the hashes.",
)


@click.group(name="api-key", short_help="API keys of callers: make, list, rotate, revoke.")
def api_key() -> None:
    """Keys for callers of a gateway with A2A_EVENTS_AUTH=api_keys.

    The file holds hashes only: a key is shown once, when it is made, and cannot be found out again. Gateways see a
    changed file within seconds; a key that is gone from it ends the streams that it has opened, too.

    \b
    Examples:
      a2a-events api-key new --file keys.jsonl --subject ci --tenant acme --days 90
      a2a-events api-key list --file keys.jsonl
      a2a-events api-key rotate --file keys.jsonl KEY_ID
      a2a-events api-key revoke --file keys.jsonl KEY_ID
    """


@api_key.command(short_help="Make a key, and show it once.")
@_FILE
@click.option("--subject", required=True, metavar="NAME", help="Whose it is. Tasks belong to it, within its tenant.")
@click.option("--tenant", default="", metavar="NAME", help="Whose caller that is.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["read", "write", "admin"]),
    default=("read", "write"),
    show_default="read and write",
    help="What it may do; repeatable.",
)
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="How long it holds.  [default: for ever]")
@click.option("--note", default="", metavar="TEXT", help="For people who read the file.")
def new(*, path: Path, subject: str, tenant: str, scopes: tuple[str, ...], days: float | None, note: str) -> None:
    """Make a key, print it, and add its hash to the file.

    \b
    Example:
      a2a-events api-key new --file keys.jsonl --subject ci --tenant acme > ci.key
    """
    from a2a_events.bindings.identity.api_keys import new_key
    from a2a_events.bindings.identity.port import Scope

    try:
        key, line = new_key(
            subject,
            tenant=tenant,
            scopes=[Scope(scope) for scope in scopes],
            expires=kept.after(days),
            note=note,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    with _changed(path, missing_is_empty=True) as keys:
        keys.append(line)
    say(f"key {line.id} of {subject} is in {path}; this is the only time that it is shown:")
    print(key)


@api_key.command(name="list", short_help="Show what keys there are.")
@_FILE
def list_(path: Path) -> None:
    """Show the keys in the file: id, subject, tenant, scopes, and when they end.

    \b
    Example:
      a2a-events api-key list --file keys.jsonl
    """
    from a2a_events.cli.text import one_line
    from a2a_events.model import timestamp_of

    for key in kept.read(path, _keys):
        ends = "for ever" if key.expires is None else f"until {timestamp_of(key.expires * 1000)}"
        tenant = f" of {key.tenant}" if key.tenant else ""
        note = f"  # {key.note}" if key.note else ""
        print(one_line(f"{key.id}  {key.subject}{tenant}  {','.join(key.scopes)}  {ends}{note}"))


@api_key.command(short_help="Make a key in the place of another, which holds on for a while.")
@_FILE
@click.argument("key_id", metavar="KEY_ID")
@click.option(
    "--keep-days",
    type=click.FloatRange(min=0),
    default=7.0,
    show_default=True,
    help="How long the old key still holds.",
)
@click.option(
    "--days",
    type=click.FloatRange(min=0, min_open=True),
    help="How long the new one holds.  [default: for ever, if the old one would have]",
)
@click.option("--for-ever", is_flag=True, help="Let the new one hold for ever, though the old one ends.")
def rotate(*, path: Path, key_id: str, keep_days: float, days: float | None, for_ever: bool) -> None:
    """Make a key of the same subject, tenant and scopes, print it, and let the old one end after --keep-days.

    In the place of a key that ends, say for how long with --days, or --for-ever.

    \b
    Examples:
      a2a-events api-key rotate --file keys.jsonl KEY_ID > ci.key
      a2a-events api-key rotate --file keys.jsonl KEY_ID --days 90 > ci.key
    """
    if days is not None and for_ever:
        raise click.UsageError("--days and --for-ever exclude each other")
    import msgspec

    from a2a_events.bindings.identity.api_keys import new_key

    now = int(time.time())
    with _changed(path) as keys:
        old = _find(keys, key_id, path)
        if old.expires is not None and days is None and not for_ever:
            raise click.UsageError(f"the key {key_id} ends: say how long the new one holds, with --days or --for-ever")
        key, line = new_key(old.subject, tenant=old.tenant, scopes=old.scopes, expires=kept.after(days), note=old.note)
        end = now + int(keep_days * kept.DAY_SECONDS)
        ending = msgspec.structs.replace(old, expires=end if old.expires is None else min(end, old.expires))
        keys[keys.index(old)] = ending
        keys.append(line)
    say(f"key {line.id} takes the place of {old.id}; this is the only time that it is shown:")
    print(key)


@api_key.command(short_help="Take a key out of the file.")
@_FILE
@click.argument("key_id", metavar="KEY_ID")
def revoke(path: Path, key_id: str) -> None:
    """Take a key out of the file: gateways let nobody in with it any more, and end its streams.

    \b
    Example:
      a2a-events api-key revoke --file keys.jsonl KEY_ID
    """
    with _changed(path) as keys:
        keys.remove(_find(keys, key_id, path))
    print(f"revoked {key_id}")


def _find(keys: list[Key], key_id: str, path: Path) -> Key:
    for key in keys:
        if key.id == key_id:
            return key
    raise Failure(f"there is no key {key_id!r} in {path}")


def _keys(content: bytes) -> list[Key]:
    from a2a_events.bindings.identity.api_keys import parse

    return list(parse(content).values())


def _changed(path: Path, *, missing_is_empty: bool = False) -> AbstractContextManager[list[Key]]:
    from a2a_events.bindings.identity.api_keys import written

    return kept.changed(path, _keys, written, missing_is_empty=missing_is_empty)
