"""The files of the page, out of the package: they are read once, and no name of a client reaches the file system.

They are plain HTML, CSS and modules of JavaScript; nothing builds them. What their policy allows is themselves: no
script or style in a line of the page, nothing of any other server, and no text that becomes markup (Trusted Types).
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from twisted.web.iweb import IRequest

from pico_twisted.net.admin.answers import HTML, answer, fail

POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    b"trusted-types 'none'"
)
"""The Content-Security-Policy of the page."""

_INDEX: Final = "index.html"
_KINDS: Final = {
    ".html": HTML,
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class PageFiles:
    """Serves them."""

    def __init__(self) -> None:
        found = files(__package__).joinpath("static")
        self._files = {
            entry.name: (_KINDS[suffix], entry.read_bytes())
            for entry in found.iterdir()
            if (suffix := entry.name[entry.name.rfind(".") :]) in _KINDS
        }

    def index(self, request: IRequest) -> bytes:
        """Answer with the page itself."""
        return self.file(request, _INDEX)

    def file(self, request: IRequest, name: str) -> bytes:
        """Answer with one of its files."""
        if name not in self._files:
            return fail(request, 404, "the page has no such file")
        kind, body = self._files[name]
        request.setHeader(b"content-security-policy", POLICY)
        return answer(request, body, kind)
