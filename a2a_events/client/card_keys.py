"""Whose signatures on agent cards count, and what a card without one is worth."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from a2a_events import limits
from a2a_events.client.errors import CardNotTrusted, ClientError, ConnectionFailed

if TYPE_CHECKING:
    from a2a_events.signing.keys import Key

Content: TypeAlias = bytes | Mapping[str, Any]
"""A JWKS, a JWK or a public key as PEM; JSON may have been read already."""
Get: TypeAlias = Callable[[], Content | Awaitable[Content]]
Source: TypeAlias = Content | Path | Get
"""Keys, the file that they are in, or what gets them: from your configuration, from a registry."""
Fetch: TypeAlias = Callable[[str], Awaitable[bytes]]

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_SETS: Final = 16
"""Key sets that signatures named, found at trusted origins, and that are kept although no card was good by them yet."""
_SETS_OF_A_CARD: Final = 3
"""Key sets of trusted origins that are looked at for one card: signers have one, and two while they move."""
_NEWCOMERS: Final = 3
"""Questions for such sets to one origin within ``limits.JWKS_FLOOR_SECONDS``: anybody can name addresses there."""


class CardKeys:
    """Checks agent cards: ``Client(url, card_keys=CardKeys(Path("trusted.jwks.json")))``.

    A card is accepted when one of its signatures was made with a key that the caller trusts, and what is handed out is
    what that signature is of. Keys that a file, a function or another origin gives are kept for five minutes; a
    signature with a key that is not among them makes them be asked for again, at most every 30 seconds. Where they
    cannot be had anew, those of before count for a day.

    Args:
        keys: trusted ones; None: only those at ``jku_origins``.
        policy: ``required`` refuses a card without signatures. ``if_signed`` accepts it, and refuses one whose
            signatures are all bad: for the time until all agents sign, because whoever can change a card on its way can
            take its signatures off as well.
        jku_origins: origins, ``https://keys.example.com``, whose key sets count when a signature names one of them as
            its ``jku``. Of any other origin a ``jku`` is nothing: it is written by whoever signed. Three of a card are
            looked at, and an origin is asked for three in 30 seconds, those left out that a card was good by before.
        jku_urls: addresses of key sets that count in the same way, without limits and without the rest of their origin.

    Raises:
        ValueError: a key is of no use (symmetric, secret, short, not to sign), two have the same name, an origin or an
            address is none, or nothing at all is trusted.
        ImportError: the extra ``signing`` is not installed.
        OSError: the file cannot be read.
    """

    def __init__(
        self,
        keys: Source | None = None,
        *,
        policy: Literal["required", "if_signed"] = "required",
        jku_origins: Sequence[str] = (),
        jku_urls: Sequence[str] = (),
    ) -> None:
        try:
            from a2a_events.signing.keys import trusted_keys  # noqa: PLC0415 -- an optional extra
        except ImportError as error:
            raise ImportError("to check the signatures of cards, install the extra: a2a-events[signing]") from error
        if keys is None and not jku_origins and not jku_urls:
            raise ValueError("no keys are trusted: give some, or the origins or addresses of key sets")
        if policy not in {"required", "if_signed"}:
            raise ValueError(f"the policy is 'required' or 'if_signed', not {policy!r}")
        self._policy = policy
        self._origins = {_origin(each): _Origin(each) for each in jku_origins}
        if "" in self._origins:
            raise ValueError("an origin is https://HOST or https://HOST:PORT, without a path")
        if not all(
            _origin(each, path=True) and urlsplit(each).path and not urlsplit(each).fragment for each in jku_urls
        ):
            raise ValueError("the address of a key set is https://HOST/PATH or https://HOST:PORT/PATH")
        self._urls = {each: _KeySet(None) for each in jku_urls}
        self._fixed: Mapping[str, Key] = {}
        self._given: _KeySet | None = None
        if isinstance(keys, Path):
            trusted_keys(keys.read_bytes())  # what cannot be used is said now, and not when a card comes
            self._given = _KeySet(lambda: asyncio.to_thread(keys.read_bytes))
        elif callable(keys):
            self._given = _KeySet(keys)
        elif isinstance(keys, str):
            raise ValueError("a path is given as a Path, and a key as bytes")  # noqa: TRY004 -- as of all bad keys
        elif keys is not None:
            self._fixed = trusted_keys(keys)
        self._named: dict[str, _KeySet] = {}

    async def verified(self, content: bytes, where: str, fetch: Fetch | None = None) -> bytes:
        """What a card says that is signed, as JSON; the card as it came if it is not signed and need not be.

        Clients call it by themselves. It is public for cards from elsewhere: a registry, a file.

        Args:
            content: the card as it came.
            where: it came from, for errors.
            fetch: gets a public document, without credentials; None: other origins are not asked.

        Raises:
            CardNotTrusted: it is not signed by a trusted key.
            ConnectionFailed: the keys to check it with cannot be had.
        """
        from a2a_events.signing.canonical import NotCanonical  # noqa: PLC0415 -- an optional extra
        from a2a_events.signing.verify import NotVerified, SignedCard  # noqa: PLC0415 -- as above

        try:
            card = SignedCard(content)
        except NotCanonical as error:
            raise CardNotTrusted(f"The card at {where} cannot be checked: {error}") from None
        if not card.signatures:
            if self._policy == "if_signed":
                return content
            raise CardNotTrusted(
                f"The card at {where} is not signed, and this client accepts none such: its operator has to sign it"
            )
        if not card.is_of_1_0:
            raise CardNotTrusted(f"The card at {where} is of A2A 0.3, whose signatures cannot be checked")
        named = dict.fromkeys((each.kid, each.jku) for each in card.signatures if not each.refusal)
        sets = self._sets(jku for kid, jku in named if kid not in self._fixed) if fetch is not None else {}
        keys: dict[str, Key] = {}
        missing: list[ConnectionFailed] = []

        async def look(kid: str, jku: str) -> None:
            get = partial(fetch, jku) if fetch is not None else None
            try:
                key = await self._key(kid, sets.get(jku), get)
            except ConnectionFailed as error:
                missing.append(error)  # another signature may do
            else:
                keys.update({kid: key} if key is not None else {})

        await asyncio.gather(*(look(kid, jku) for kid, jku in named))
        try:
            verified = card.verified(keys, time.time())
        except NotVerified as error:
            if missing:
                raise missing[-1] from None
            raise CardNotTrusted(
                f"The card at {where} is not signed with a key that this client trusts: {error}"
            ) from None
        if verified.by.jku in sets:
            sets[verified.by.jku].has_vouched = True
        return msgspec.json.encode(verified.card)

    def _sets(self, named: Iterable[str]) -> dict[str, _KeySet]:
        """Those of the key sets that a card names that may be looked at."""
        found: dict[str, _KeySet] = {}
        others = 0
        for jku in dict.fromkeys(named):
            origin = self._origins.get(_origin(jku, path=True))
            if jku in self._urls:
                found[jku] = self._urls[jku]
            elif origin is not None and others < _SETS_OF_A_CARD:
                others += 1
                found[jku] = self._named.get(jku) or self._added(jku, origin)
        return found

    def _added(self, jku: str, origin: _Origin) -> _KeySet:
        unproven = [each for each, keys in self._named.items() if not keys.has_vouched]
        if len(unproven) >= _SETS:
            del self._named[unproven[0]]
        self._named[jku] = _KeySet(None, origin)
        return self._named[jku]

    async def _key(self, kid: str, named: _KeySet | None, get: Get | None) -> Key | None:
        if kid in self._fixed:
            return self._fixed[kid]
        if self._given is not None and (key := await self._given.find(kid)) is not None:
            return key
        return await named.find(kid, get) if named is not None else None


class _Origin:
    """A trusted origin, and how often it was asked for key sets by which no card was good yet."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._asked: deque[float] = deque(maxlen=_NEWCOMERS)

    def admits(self, now: float) -> bool:
        """Whether it may be asked for one more; then that counts."""
        if len(self._asked) == _NEWCOMERS and now - self._asked[0] <= limits.JWKS_FLOOR_SECONDS:
            return False
        self._asked.append(now)
        return True


class _KeySet:
    """Keys that are got from somewhere, and kept for a while.

    Args:
        get: gives them; None: whoever looks for one says how, because connections are theirs and may be closed later.
        origin: bounds how often they are asked for until a card was good by them; None: nothing does.
    """

    def __init__(self, get: Get | None, origin: _Origin | None = None) -> None:
        self.has_vouched = False
        """Whether a card was good by a signature that names this set."""
        self._get = get
        self._origin = origin
        self._keys: Mapping[str, Key] = {}
        self._got = self._asked = float("-inf")
        self._failure: Exception | None = None
        self._lock = asyncio.Lock()

    async def find(self, kid: str, get: Get | None = None) -> Key | None:
        """The key of this name; None if there is none.

        Args:
            kid: its name.
            get: gives the keys, for a set that was not made with it.

        Raises:
            ConnectionFailed: that cannot be said.
        """
        async with self._lock:
            now = time.monotonic()
            age = now - self._got
            pause = limits.JWKS_FLOOR_SECONDS if age <= limits.JWKS_STALE_SECONDS else limits.JWKS_RETRY_SECONDS
            if (kid not in self._keys or age > limits.JWKS_FRESH_SECONDS) and now - self._asked > pause:
                await self._ask(self._get or get, now)
        if now - self._got > limits.JWKS_STALE_SECONDS:
            reason = _reason(self._failure)
            raise ConnectionFailed(
                f"The keys that agent cards are checked with cannot be had ({reason}); the agent was not asked anything"
            ) from self._failure
        return self._keys.get(kid)

    async def _ask(self, get: Get | None, now: float) -> None:
        from a2a_events.signing.keys import published_keys  # noqa: PLC0415 -- an optional extra

        assert get is not None, "a set is made with it, or asked with it"
        if self._origin is not None and not self.has_vouched and not self._origin.admits(now):
            self._failure = ConnectionFailed(f"cards have just named too many other key sets of {self._origin.url}")
            return
        self._asked = now
        self._failure = None
        try:
            async with asyncio.timeout(limits.JWKS_TIMEOUT_SECONDS):
                given = get()
                self._keys = published_keys(await given if inspect.isawaitable(given) else given)
            self._got = now
        except Exception as error:  # noqa: BLE001 -- it is the caller's function; what is known stays
            self._failure = error


def _reason(error: Exception | None) -> str:
    match error:
        case None:
            return "the last to ask for them did not wait for the answer"
        case ClientError():
            return error.message
        case TimeoutError() if not str(error):
            return f"no answer within {limits.JWKS_TIMEOUT_SECONDS:g} seconds"
        case _:
            return f"{type(error).__name__}: {error}"


def is_secure(url: str) -> bool:
    """Whether nobody can listen on the way: HTTPS, or HTTP on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _origin(url: str, *, path: bool = False) -> str:
    """Scheme, host and port; empty if this is no address to trust: HTTPS, or HTTP on this machine."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    if not is_secure(url) or not host or parts.username is not None or parts.password is not None:
        return ""
    if not path and (parts.path not in {"", "/"} or parts.query or parts.fragment):
        return ""
    return f"{parts.scheme}://{host}:{port or (443 if parts.scheme == 'https' else 80)}"
