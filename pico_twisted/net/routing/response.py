"""How far the response to a routed request is."""

from __future__ import annotations

import enum


class Response(enum.Enum):
    """How far the response is."""

    AWAITED = enum.auto()
    INTERIM = enum.auto()  # a 1xx was passed on: the request is not made again
    BODY = enum.auto()
    UPGRADED = enum.auto()  # both directions are raw bytes
    OVER = enum.auto()  # the downstream was told `done`
