"""The operator's own pages, as they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pico_twisted.config import ConfigFaults, load_node
from pico_twisted.config.error_pages import MOST_PAGE_BYTES, read_error_pages


def test_pages_are_read_by_status(tmp_path: Path) -> None:
    """Files named after a status, and default.html, are pages; everything else in the directory is left alone."""
    for name in ("502.html", "default.html", "404.htm", "302.html", "logo.png", "1502.html"):
        (tmp_path / name).write_text(name)
    assert read_error_pages(str(tmp_path)) == ({"502": "502.html", "default": "default.html"}, [])
    assert read_error_pages("") == ({}, [])


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("502.html", b"x" * (MOST_PAGE_BYTES + 1), "too large"),
        ("502.html", b"\xff", "not UTF-8"),
        ("502.html", None, "Is a directory"),
        ("index.html", b"", "no page"),
        ("", b"", "No such file or directory"),
    ],
)
def test_pages_that_cannot_be_used(tmp_path: Path, name: str, content: bytes | None, why: str) -> None:
    """A directory or a page that cannot be used is a fault of the configuration, which names it."""
    directory = tmp_path / ("pages" if name else "missing")
    if name:
        directory.mkdir()
        if content is None:
            (directory / name).mkdir()
        else:
            (directory / name).write_bytes(content)
    with pytest.raises(ConfigFaults, match=why) as caught:
        load_node(overrides={"proxy.error_pages": str(directory)})
    assert "--proxy.error-pages" in str(caught.value) and str(directory) in str(caught.value)
