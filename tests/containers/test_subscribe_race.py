"""The race between a subscription and the end of its task, against a container."""

from tests.integration.test_races import *  # noqa: F403
