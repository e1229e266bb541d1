"""`tests.system.test_errors` with an earlier version on one side."""

from tests.system.test_errors import *  # noqa: F403

BORROWED = True
