"""That no row of the list is lost: each is carried by a test, by its number, for each binding that it is about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import ModuleType

from tests.bad_input import (
    test_envelope,
    test_fields,
    test_framing,
    test_headers,
    test_identifiers,
    test_identity,
    test_isolation,
    test_streams,
    test_token_lifetime,
    test_webhooks,
)
from tests.bad_input.rows import (
    ALL,
    ENVELOPE,
    FIELDS,
    FRAMING,
    HEADERS,
    IDENTIFIERS,
    IDENTITY,
    STREAMS,
    WEBHOOKS,
)

GROUPS = {
    test_framing: FRAMING,
    test_envelope: ENVELOPE,
    test_fields: FIELDS,
    test_identifiers: IDENTIFIERS,
    test_webhooks: WEBHOOKS,
    test_streams: STREAMS,
    test_headers: HEADERS,
}
OF_NO_BINDING = {20, 91, 92, 118, 119, 121, 122, *ENVELOPE}
"""Rows that say what HTTP, a notifier or one binding does."""
NOT_ON_THE_LIST = {66, 69, 72}
"""Which ``test_identity`` has besides."""


def rows_of(module: ModuleType) -> Iterator[tuple[int, bool]]:
    """The rows that the tests of a module carry, and whether for both bindings."""
    for name, function in vars(module).items():
        if not name.startswith("test_"):
            continue
        given = {
            mark.args[0]: mark.args[1] for mark in getattr(function, "pytestmark", []) if mark.name == "parametrize"
        }
        for case in given.get("case", ()):
            found = re.match(r"row-(\d+)-.", case)
            assert found, f"{name} has a case without a row: {case}"
            yield int(found[1]), "binding" in given


def test_every_row_is_carried_by_a_test_of_each_binding() -> None:
    for module, group in GROUPS.items():
        carried = list(rows_of(module))
        assert group.keys() == {row for row, _ in carried}, module.__name__
        both = {row for row, bindings in carried if bindings}
        assert group.keys() - OF_NO_BINDING == both - OF_NO_BINDING, module.__name__


def test_every_row_of_identity_is_carried_too() -> None:
    cases = [name for name, _ in test_identity.ROWS]
    tests = [name for module in (test_identity, test_isolation, test_token_lifetime) for name in vars(module)]
    found = [re.match(r"(?:test_)?(\d+)[-_]", name) for name in cases + tests]
    assert IDENTITY.keys() == {int(row[1]) for row in found if row} - NOT_ON_THE_LIST


def test_a_row_is_in_one_group() -> None:
    assert len(ALL) == sum(map(len, [*GROUPS.values(), IDENTITY]))
