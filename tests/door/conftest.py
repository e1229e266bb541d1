"""A node for each test."""

from __future__ import annotations

from tests.integration.conftest import node

__all__ = ["node"]
