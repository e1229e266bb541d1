"""`tests.system.test_v1` with an earlier version on one side."""

from tests.system.test_v1 import *  # noqa: F403

BORROWED = True
