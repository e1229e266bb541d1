"""Pico on Twisted: a reverse tunnel for production traffic that you run yourself."""

from __future__ import annotations

__version__ = "0.1.0"
