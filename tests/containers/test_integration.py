"""Agents and turns, against a container. What kills its broker stays with the packaged server."""

from tests.integration.test_agent_api import *  # noqa: F403
from tests.integration.test_turns import *  # noqa: F403
