"""The whole contract suite, against a container."""

from tests.contract.test_append import *  # noqa: F403
from tests.contract.test_beside import *  # noqa: F403
from tests.contract.test_dispatch import *  # noqa: F403
from tests.contract.test_lost_answers import *  # noqa: F403
from tests.contract.test_read import *  # noqa: F403
from tests.contract.test_watch import *  # noqa: F403
