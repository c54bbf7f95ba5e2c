"""The signer of a gateway's cards, from its settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from a2a_events.bindings.identity.kept_file import KeptFile
from a2a_events.settings import PREFIX, Settings, SettingsError

if TYPE_CHECKING:
    from a2a_events.signing.keys import Key
    from a2a_events.signing.sign import CardSigner

logger = structlog.get_logger(__name__)


def card_signer(settings: Settings) -> CardSigner | None:
    """What signs the cards of a gateway; None: cards go without signatures.

    Files with keys are looked at again as long as it is used: keys come and go without a restart.

    Raises:
        SettingsError: a key cannot be read or used, or the extra is missing.
    """
    named = [each.strip() for each in settings.card_keys.split(",") if each.strip()]
    if not named:
        if settings.card_jku:
            raise SettingsError(f"{PREFIX}CARD_JKU says where keys are, and {PREFIX}CARD_KEYS names none")
        return None
    try:
        from a2a_events.signing.sign import CardSigner  # noqa: PLC0415 -- an optional extra
    except ImportError as error:
        raise SettingsError(
            f"{PREFIX}CARD_KEYS needs packages that are not here: install a2a-events[signing] ({error})"
        ) from None
    if settings.card_jku and urlsplit(settings.card_jku).scheme != "https":
        raise SettingsError(f"{PREFIX}CARD_JKU={settings.card_jku!r} must be an https address")
    files = _Files([_file(each) for each in named])
    signer = CardSigner(files, jku=settings.card_jku)
    if not signer.keys:
        raise SettingsError(f"{PREFIX}CARD_KEYS: all keys have expired; make one with `a2a-events card keygen`")
    return signer


def _file(named: str) -> KeptFile[tuple[Key, ...]]:
    from a2a_events.signing.keys import signing_keys  # noqa: PLC0415 -- an optional extra

    kid, _, path = named.rpartition("=")
    parse: Callable[[bytes], tuple[Key, ...]] = partial(signing_keys, kid=kid)
    try:
        return KeptFile(Path(path), parse)
    except OSError as error:
        raise SettingsError(f"{PREFIX}CARD_KEYS: cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{PREFIX}CARD_KEYS: {path}: {error}") from None


class _Files:
    """The keys in several files; those of before, if two of them come to have the same name.

    Raises:
        SettingsError: two have it now.
    """

    def __init__(self, files: Sequence[KeptFile[tuple[Key, ...]]]) -> None:
        self._files = files
        self._seen = self._read()
        self._keys = tuple(chain(*self._seen))
        if said := _ambiguous(self._keys):
            raise SettingsError(f"{PREFIX}CARD_KEYS: {said}")

    def __call__(self) -> tuple[Key, ...]:
        """Those of now."""
        seen = self._read()
        if seen != self._seen:
            self._seen = seen
            keys = tuple(chain(*seen))
            if said := _ambiguous(keys):
                logger.error("files with card keys do not go together; what they said before holds", error=said)
            else:
                self._keys = keys
        return self._keys

    def _read(self) -> list[tuple[Key, ...]]:
        return [file.content for file in self._files]


def _ambiguous(keys: Sequence[Key]) -> str:
    """Which names are those of several keys, in words; empty if each is of one."""
    names = Counter(key.kid for key in keys)
    twice = [name for name, times in names.items() if times > 1]
    return f"two keys have the same name: {', '.join(twice)}" if twice else ""
