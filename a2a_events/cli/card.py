"""``card``: the keys that sign agent cards, and cards that are signed."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from a2a_events.cli import kept
from a2a_events.cli.outcome import Exit, Failure, say
from a2a_events.signing.algorithms import ALGORITHMS

if TYPE_CHECKING:
    from a2a_events.model import AgentCard
    from a2a_events.signing.keys import Key

_FILE: Final = click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The file with the private keys, a JWKS.",
)


@click.group(short_help="Signed agent cards: make keys, sign, verify.")
def card() -> None:
    """Keys that sign agent cards, and cards that are signed with them.

    A gateway with A2A_EVENTS_CARD_KEYS signs every card that it shows with all keys in that file, and sees a changed
    file within seconds. Needs the extra a2a-events[signing].

    \b
    Examples:
      a2a-events card keygen --file card-keys.json --days 365
      a2a-events card show --file card-keys.json > trusted.jwks.json   # for clients
      a2a-events card verify https://agent.example --keys trusted.jwks.json
      a2a-events card drop --file card-keys.json KID
    """


@card.command(short_help="Make a key.")
@_FILE
@click.option(
    "--alg",
    type=click.Choice(ALGORITHMS),
    default="EdDSA",
    show_default=True,
    help="What it signs with. EdDSA and RS256 give the same bytes at every gateway, which caches like.",
)
@click.option("--kid", default="", metavar="NAME", help="Its name.  [default: its thumbprint]")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="How long it counts.  [default: for ever]")
def keygen(*, path: Path, alg: str, kid: str, days: float | None) -> None:
    """Make a key, add it to the file, and print its public half.

    \b
    Example:
      a2a-events card keygen --file card-keys.json --alg ES256 --days 365
    """
    _require_extra()
    from a2a_events.signing.keys import new_key

    key = new_key(alg, kid=kid, ends=kept.after(days))
    with _changed(path, missing_is_empty=True) as keys:
        if any(each.kid == key.kid for each in keys):
            raise Failure(f"there is a key {key.kid!r} in {path} already")
        keys.append(key)
    say(f"key {key.kid} is in {path}; keep it secret. Its public half, for clients:")
    _print(key.public)


@card.command(short_help="Print the public halves, for clients.")
@_FILE
def show(path: Path) -> None:
    """Print the public halves of the keys in the file, as a JWKS.

    \b
    Example:
      a2a-events card show --file card-keys.json > trusted.jwks.json
    """
    _require_extra()
    from a2a_events.signing.keys import jwks

    _print(jwks(kept.read(path, _keys)))


@card.command(short_help="Take a key out of the file.")
@_FILE
@click.argument("kid", metavar="KID")
def drop(path: Path, kid: str) -> None:
    """Take a key out of the file: gateways sign with it no more.

    Clients that trust it go on doing so; they have to be told when it has become known to somebody.

    \b
    Example:
      a2a-events card drop --file card-keys.json KID
    """
    _require_extra()
    with _changed(path) as keys:
        left = [key for key in keys if key.kid != kid]
        if len(left) == len(keys):
            raise Failure(f"there is no key {kid!r} in {path}")
        if not left:
            raise Failure(f"{kid} is the only key in {path}: make another first, or have no such file")
        keys[:] = left
    print(f"dropped {kid}")


@card.command(short_help="Sign a card in a file.")
@_FILE
@click.argument("card_path", metavar="CARD", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option("--jku", default="", metavar="URL", help="Where the public keys are, if signatures are to say so.")
def sign(path: Path, card_path: Path, jku: str) -> None:
    """Print the card in a file (JSON), signed with all keys, in the place of signatures that it had.

    Gateways sign by themselves; this is for cards that are published elsewhere, in a registry for example.

    \b
    Example:
      a2a-events card sign --file card-keys.json card.json > signed.json
    """
    _require_extra()
    if jku and not _is_https(jku):
        raise click.BadParameter(f"{jku!r} must be an https address", param_hint="--jku")
    from a2a_events.signing.canonical import NotCanonical, read
    from a2a_events.signing.sign import signatures

    now = time.time()
    keys = [key for key in kept.read(path, _keys) if not key.refusal(now)]
    if not keys:
        raise Failure(f"all keys in {path} have expired; make one with `a2a-events card keygen`")
    try:
        members = read(card_path.read_bytes())
        _print({**members, "signatures": signatures(members, keys, jku)})
    except OSError as error:
        raise Failure(f"cannot read {card_path}: {error.strerror}") from None
    except NotCanonical as error:
        raise Failure(f"{card_path}: {error}") from None


@card.command(short_help="Check the signatures of an agent's card.")
@click.argument("target", metavar="URL|FILE")
@click.option(
    "--keys",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="The keys to trust: a JWKS, or a public key as PEM.",
)
@click.option(
    "--jku-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Trust key sets that signatures of the card at URL name, at this origin (https://HOST); repeatable.",
)
def verify(target: str, keys: Path | None, origins: tuple[str, ...]) -> None:
    """Say whether an agent's card is signed with a key that you trust. The exit code is 1 if it is not.

    \b
    Examples:
      a2a-events card verify https://agent.example --keys trusted.jwks.json
      a2a-events card verify signed.json --keys trusted.jwks.json
    """
    import asyncio

    from a2a_events.cli.text import one_line
    from a2a_events.client import CardKeys, Client
    from a2a_events.client.endpoint import read_card

    try:
        trusted = CardKeys(keys, jku_origins=origins)
    except ImportError as error:
        raise Failure(str(error), Exit.USAGE) from None
    except OSError as error:
        raise Failure(f"cannot read {keys}: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(f"{keys}: {error}" if keys else str(error)) from None

    async def served() -> AgentCard:
        async with Client(target, card_keys=trusted) as client:
            return await client.card()

    if "://" in target:
        found = asyncio.run(served())
    else:
        try:
            content = Path(target).read_bytes()
        except OSError as error:
            raise Failure(f"cannot read {target}: {error.strerror}") from None
        found = read_card(asyncio.run(trusted.verified(content, target)))
    at = ", ".join(each.url for each in found.supported_interfaces)
    print(one_line(f"good: {found.name} {found.version} at {at}"))


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname)


def _require_extra() -> None:
    try:
        import_module("a2a_events.signing.keys")
    except ImportError as error:
        raise Failure(
            f"keys need packages that are not here: install a2a-events[signing] ({error})", Exit.USAGE
        ) from None


def _print(value: Any) -> None:
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False))


def _keys(content: bytes) -> list[Key]:
    from a2a_events.signing.keys import signing_keys

    return list(signing_keys(content))


def _listed(content: bytes) -> list[Key]:
    """The keys in a file that can hold several."""
    from a2a_events.signing.keys import BadKey, is_pem

    if is_pem(content):
        raise BadKey("a PEM holds one key, and this would make a JWKS of it: name another file")
    return _keys(content)


def _changed(path: Path, *, missing_is_empty: bool = False) -> AbstractContextManager[list[Key]]:
    return kept.changed(path, _listed, _written, missing_is_empty=missing_is_empty)


def _written(keys: list[Key]) -> bytes:
    import json

    return (json.dumps({"keys": [key.jwk for key in keys]}, indent=2) + "\n").encode()
