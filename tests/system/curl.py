"""curl, as a client that does what others do."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tools.stage.asking import Json
from tools.stage.certificates import Tls


@dataclass(frozen=True)
class CurlAnswer:
    """What curl got.

    Attributes:
        code: curl's own exit status; 0 for a whole transfer, 18 for a partial one.
        heads: each head it saw, 1xx ones first, as (status line, headers with lower-case names).
    """

    code: int
    status: int
    heads: list[tuple[str, dict[str, str]]]
    body: bytes
    errors: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the final head."""
        return self.heads[-1][1] if self.heads else {}

    @property
    def json(self) -> Json:
        """The body as JSON."""
        return json.loads(self.body)


def _parse_heads(text: str) -> list[tuple[str, dict[str, str]]]:
    heads: list[tuple[str, dict[str, str]]] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if line.startswith("HTTP/"):
            heads.append((line, {}))
        elif line and heads:
            name, _, value = line.partition(":")
            heads[-1][1][name.strip().lower()] = value.strip()
    return heads


def curl(
    url: str, *arguments: str, directory: Path, tls: Tls | None = None, data: bytes | None = None, timeout: float = 60.0
) -> CurlAnswer:
    """Run curl. `data` is what it reads on stdin, for `--data-binary @-` and the like."""
    number = time.monotonic_ns()
    head_file, body_file = directory / f"curl-{number}.head", directory / f"curl-{number}.body"
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", str(timeout), "--path-as-is"]
    command += ["--dump-header", str(head_file), "--output", str(body_file)]
    if tls is not None:
        command += ["--cacert", str(tls.authority.ca)]
    command += [*arguments, url]
    run = subprocess.run(command, check=False, input=data or b"", capture_output=True, timeout=timeout + 30)
    heads = _parse_heads(head_file.read_text("latin-1")) if head_file.exists() else []
    body = body_file.read_bytes() if body_file.exists() else b""
    for path in (head_file, body_file):
        path.unlink(missing_ok=True)
    status = int(heads[-1][0].split(" ")[1]) if heads else 0
    return CurlAnswer(run.returncode, status, heads, body, run.stderr.decode("utf-8", "replace"))
