"""What can be seen of a node beyond what it always shows."""

from __future__ import annotations

import attrs

from pico_twisted.config import kinds
from pico_twisted.config.fields import setting


@attrs.frozen(kw_only=True)
class MetricsConfig:
    """What the metrics show."""

    per_endpoint: bool = setting(
        kinds.BOOLEAN,
        "false",
        "Whether requests are counted by endpoint, too: by status, with the time to the first byte, and those in "
        "progress. That is about ten time series for each endpoint; those beyond 1,000 are counted as `other`.",
    )
