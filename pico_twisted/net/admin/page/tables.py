"""What viewers were told, as tables, so that they are told only what changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]  # what JSON can hold
Table = Mapping[str, Row]
"""Rows by their keys."""


class Tables:
    """Some tables, as they were told last."""

    def __init__(self) -> None:
        self._told: Mapping[str, Table] = {}

    def change(self, tables: Mapping[str, Table]) -> dict[str, object]:
        """What has changed since the last time, by the names of the tables; `gone` has the keys of rows that left.

        Args:
            tables: all of them, as they are now. They are kept, and must not change afterwards.
        """
        told, self._told = self._told, tables
        changed: dict[str, object] = {}
        gone: dict[str, list[str]] = {}
        for name, rows in tables.items():
            before = told.get(name, {})
            if new := {key: row for key, row in rows.items() if before.get(key) != row}:
                changed[name] = new
            if left := [key for key in before if key not in rows]:
                gone[name] = left
        return {**changed, "gone": gone} if gone else changed

    def whole(self) -> dict[str, object]:
        """All of it, as it was told last."""
        return dict(self._told)
