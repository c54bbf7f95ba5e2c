from __future__ import annotations

from tests.integration.conftest import serve as serve  # noqa: PLC0414 -- a fixture, for these tests too
