"""How many examples Hypothesis tries: the profiles, and numbers that follow them.

`dev` is for `make check`, `ci` for `make test`, `nightly` for `make properties`. The first two try the same examples
each time, so that the same commit has the same verdict; `nightly` looks for new ones. None has a deadline for one
example: a busy machine is no fault of the code.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

CI_EXAMPLES = 100
"""A test without a number of its own tries so many in `make test`. The numbers given to `examples` are for that."""

DEV_EXAMPLES = 25
"""No test tries more in `make check`."""

NIGHTLY_EXAMPLES = 1000

PROFILES = {
    "dev": settings(
        max_examples=DEV_EXAMPLES, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
    ),
    "ci": settings(
        max_examples=CI_EXAMPLES, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
    ),
    "nightly": settings(
        max_examples=NIGHTLY_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
    ),
}


def register() -> None:
    """Make the profiles known, and `ci` the one that holds when the command line names none."""
    for name, profile in PROFILES.items():
        settings.register_profile(name, profile)
    settings.load_profile("ci")


def examples(count: int) -> int:
    """What a test that tries `count` examples in `make test` tries in the profile that holds."""
    limit = settings().max_examples
    return min(count, limit) if limit < CI_EXAMPLES else count * limit // CI_EXAMPLES
