"""The tests that the threat model names are there."""

from __future__ import annotations

import re

from tools.stage.processes import ROOT


def test_the_tests_that_are_named_exist() -> None:
    """docs/security.md says which test shows what: each of them can be found."""
    text = (ROOT / "docs/security.md").read_text("utf-8")
    named = set(re.findall(r"`((?:[a-z0-9_]+/)+[a-z0-9_]+)`", text))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / "tests" / f"{name}.py").is_file()] == []
