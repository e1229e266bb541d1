"""`tests.system.test_upgrades` with an earlier version on one side."""

from tests.system.test_upgrades import *  # noqa: F403

BORROWED = True
