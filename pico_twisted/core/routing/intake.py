"""What a node takes that is new: everything, or less, as its operators or its end will have it."""

from __future__ import annotations

import enum


class Intake(enum.Enum):
    """What a node takes. Other nodes send a node that is not open only what nobody else serves."""

    OPEN = "open"
    CORDONED = "cordoned"  # no new sessions of agents; those that are here stay
    DRAINED = "drained"  # the same, and its agents were told to go elsewhere
    STOPPING = "stopping"  # the same, since the process ends; final

    @property
    def moves_agents(self) -> bool:
        """Whether agents are told to go elsewhere, and clients to connect again."""
        return self in (Intake.DRAINED, Intake.STOPPING)
