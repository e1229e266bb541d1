"""All cases, by their numbers."""

from __future__ import annotations

from tests.conformance.case import Case
from tests.conformance.definitions import DEFINITIONS
from tests.conformance.frames import FRAMES
from tests.conformance.generic import GENERIC, HPACK
from tests.conformance.messages import MESSAGES

ALL: dict[str, Case] = {case.number: case for case in [*GENERIC, *FRAMES, *DEFINITIONS, *MESSAGES, *HPACK]}
