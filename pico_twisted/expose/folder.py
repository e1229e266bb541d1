"""Serves a folder: twisted.web's files, with what a stranger may not see left out, and lists that a phone can read.

What can go wrong. A link in the folder leads out of it; `.git` and `.env` lie in many folders; a name is HTML; a pipe
stands where a file is expected, and whoever opens it waits for ever; somebody sends a body without end. So each name of
a path is looked at on its own, where it really leads decides, only plain files and folders are served, and bodies are
dropped as they come. What may not be seen is answered as what is not there.
"""

from __future__ import annotations

import html
import os
import stat
from io import BytesIO
from typing import Any, Final
from urllib.parse import quote

import attrs
from twisted.python.filepath import FilePath, InsecurePath
from twisted.web import static
from twisted.web.pages import notFound
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from pico_twisted.core.text import short_size

MAX_LISTED: Final = 10_000
"""Most names that a list shows: more of them nobody reads, and a phone shows them badly."""
MORE_TYPES: Final = {
    ".avif": "image/avif",
    ".bz2": "application/x-bzip2",
    ".gz": "application/gzip",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
"""Types that Python's list may lack."""
_FIELDS: Final = (
    ("Cache-Control", "no-cache"),  # whoever edits a file wants to see it
    ("X-Content-Type-Options", "nosniff"),
)
_STYLE: Final = (
    "body{font:1rem/1.4 system-ui,sans-serif;margin:1rem auto;max-width:50rem;padding:0 1rem}"
    "ul{list-style:none;padding:0}li{display:flex;gap:1rem;border-top:1px solid #8884}"
    "a{flex:1;padding:.6rem 0;overflow-wrap:anywhere}span{padding:.6rem 0;opacity:.7;white-space:nowrap}"
    ":root{color-scheme:light dark}"
)
_PAGE: Final = (
    '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style>'
    "<h1>{title}</h1><ul>{rows}</ul>{more}</html>"
)


@attrs.frozen(kw_only=True)
class Fence:
    """What of a folder may be seen.

    Attributes:
        root: the folder, where it really is.
        hidden: names that begin with a dot, too.
    """

    root: str
    hidden: bool = False

    def lets(self, path: str) -> bool:
        """Whether a path may be seen: a plain file or a folder that lies in ours, whatever links lead to it."""
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError):  # a NUL in it
            return False
        if real != self.root and not real.startswith(self.root.rstrip(os.sep) + os.sep):
            return False
        if not self.hidden and any(name.startswith(".") for name in real[len(self.root) :].split(os.sep)):
            return False
        try:
            mode = os.stat(real).st_mode
        except (OSError, ValueError):
            return False
        return (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and os.access(real, os.R_OK)


class FolderFile(static.File):
    """A file or a folder that is served.

    Args:
        path: its name.
        fence: what may be seen.
    """

    contentTypes = {**static.loadMimeTypes(), **MORE_TYPES}
    contentEncodings: dict[str, str] = {}  # what is compressed stays so: somebody downloads it

    def __init__(self, path: str, fence: Fence) -> None:
        super().__init__(path, defaultType="application/octet-stream")
        self._fence = fence

    def getChild(self, path: bytes, request: Request) -> IResource:
        """What is below, if it may be seen."""
        self.restat(False)
        if not self.isdir():
            return _NOT_FOUND
        if not path:
            if request.postpath:
                return _NOT_FOUND  # two slashes in a row
            for name in ("index.html", "index.htm"):
                index = os.path.join(self.path, name)
                if os.path.isfile(index) and self._fence.lets(index):
                    return self._made(index)
            return Listing(self.path, self._fence)
        try:
            child = FilePath(self.path).child(os.fsdecode(path)).path  # names of files have any bytes
        except (InsecurePath, ValueError):
            return _NOT_FOUND
        hidden = os.path.basename(child).startswith(".") and not self._fence.hidden
        return _NOT_FOUND if hidden or not self._fence.lets(child) else self._made(child)

    def _made(self, path: str) -> FolderFile:
        return type(self)(path, self._fence)

    def render_GET(self, request: Request) -> bytes | int:
        """The file, or the part of it that was asked for; a folder is sent to its name with a slash."""
        for name, value in _FIELDS:
            request.setHeader(name, value)
        self.type, self.encoding = static.getTypeAndEncoding(
            self.basename(), self.contentTypes, self.contentEncodings, self.defaultType
        )
        if self.type.startswith("text/") and self.type != "text/html":
            self.type += "; charset=utf-8"  # a page of HTML says itself what it is in
        return super().render_GET(request)

    render_HEAD = render_GET


class Listing(Resource):
    """What is in a folder, for people.

    Args:
        path: of the folder.
        fence: what may be seen.
    """

    isLeaf = True

    def __init__(self, path: str, fence: Fence) -> None:
        super().__init__()
        self._path = path
        self._fence = fence

    def render_GET(self, request: Request) -> bytes:
        for name, value in (*_FIELDS, ("Content-Type", "text/html; charset=utf-8")):
            request.setHeader(name, value)
        request.setHeader("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        try:
            names = os.listdir(self._path)
        except OSError:
            names = []
        found = [name for name in names if self._fence.hidden or not name.startswith(".")]
        rows = [self._row(name) for name in sorted(found, key=str.casefold)[:MAX_LISTED]]
        if os.path.realpath(self._path) != self._fence.root:
            rows.insert(0, '<li><a href="../">..</a></li>')
        more = f"<p>{len(found) - MAX_LISTED} more are not listed.</p>" if len(found) > MAX_LISTED else ""
        title = html.escape(_shown(os.path.basename(os.path.realpath(self._path)) or "/"))
        return _PAGE.format(title=title, style=_STYLE, rows="".join(filter(None, rows)), more=more).encode()

    def _row(self, name: str) -> str:
        path = os.path.join(self._path, name)
        if not self._fence.lets(path):
            return ""
        try:
            found = os.stat(path)
        except OSError:  # it is gone meanwhile
            return ""
        is_folder = stat.S_ISDIR(found.st_mode)
        slash = "/" if is_folder else ""
        href = f"./{quote(os.fsencode(name))}{slash}"
        size = "" if is_folder else short_size(found.st_size)
        return f'<li><a href="{href}">{html.escape(_shown(name))}{slash}</a><span>{size}</span></li>'


class _Request(Request):
    """A request whose body nobody reads."""

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Drop it."""


def folder_site(folder: str, hidden: bool, reactor: Any) -> Site:  # a reactor has no one type
    """What serves a folder.

    Args:
        folder: as an absolute path.
        hidden: names that begin with a dot, too.
        reactor: tells the time.
    """
    fence = Fence(root=os.path.realpath(folder), hidden=hidden)
    site = Site(FolderFile(fence.root, fence), requestFactory=_Request, reactor=reactor, parsePOSTFormSubmission=False)
    site.noisy = False
    return site


def _shown(name: str) -> str:
    """A name of a file, whatever bytes it has."""
    return os.fsencode(name).decode("utf-8", "replace")


_NOT_FOUND: Final = notFound(message="No such file.")
