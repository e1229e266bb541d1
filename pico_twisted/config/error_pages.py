"""The operator's own pages for errors: a directory with `502.html`, `default.html` and the like."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from pico_twisted.config.faults import MAX_FILE_NAME_SHOWN, Fault, shown

MOST_PAGE_BYTES = 64 << 10
"""Bytes that a page may have: each error that it is for sends all of it, and it is kept in memory."""

_PATH = "proxy.error_pages"
_PAGE = re.compile(r"([45][0-9]{2}|default)\.html")


def read_error_pages(directory: str) -> tuple[Mapping[str, str], Sequence[Fault]]:
    """Read all pages of a directory.

    Args:
        directory: its name; empty for none.

    Returns:
        The pages by their name, a status or `default`; and a fault for each that cannot be used.
    """
    pages: dict[str, str] = {}
    faults: list[Fault] = []
    expected = f"HTML files such as 502.html or default.html, in UTF-8, of at most {MOST_PAGE_BYTES >> 10} KiB"

    def refuse(name: str, why: str) -> None:
        faults.append(Fault(path=_PATH, found=f"{shown(name, MAX_FILE_NAME_SHOWN)} ({why})", expected=expected))

    try:
        names = sorted(os.listdir(directory)) if directory else []
    except OSError as error:
        refuse(directory, error.strerror or "cannot be read")
        return pages, faults
    for name in names:
        match = _PAGE.fullmatch(name)
        if match is None:
            continue
        path = os.path.join(directory, name)
        try:
            with open(path, "rb") as file:
                content = file.read(MOST_PAGE_BYTES + 1)
            if len(content) > MOST_PAGE_BYTES:
                refuse(path, "too large")
            else:
                pages[match.group(1)] = content.decode("utf-8")
        except OSError as error:
            refuse(path, error.strerror or "cannot be read")
        except UnicodeDecodeError:
            refuse(path, "not UTF-8")
    if directory and not pages and not faults:
        refuse(directory, "no page")
    return pages, faults
