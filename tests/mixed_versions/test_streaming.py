"""`tests.system.test_streaming` with an earlier version on one side."""

from tests.system.test_streaming import *  # noqa: F403

BORROWED = True
