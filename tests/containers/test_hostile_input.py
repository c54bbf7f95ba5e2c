"""Bad input, against a container."""

from tests.integration.test_hostile import *  # noqa: F403
from tests.integration.test_hostile import pytestmark as pytestmark  # noqa: PLC0414 -- its event loop is its module's
