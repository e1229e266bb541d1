"""`tests.system.test_requests` with an earlier version on one side."""

from tests.system.test_requests import *  # noqa: F403

BORROWED = True
