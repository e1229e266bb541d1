"""Single requests to the ports of a node, and what its admin port says."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple

from tools.stage.ports import HOST
from tools.stage.waiting import PATIENCE_S

Json = Any  # as it was decoded
NO_ANSWER = (OSError, http.client.HTTPException)
"""What is raised when no whole answer comes."""


class Answer(NamedTuple):
    """An answer; the names of its header fields are in lower case."""

    status: int
    reason: str
    fields: dict[str, str]
    body: bytes


def get(
    port: int,
    path: str,
    fields: Mapping[str, str] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    timeout: float = PATIENCE_S,
) -> Answer:
    """Make a GET request.

    Args:
        port: of 127.0.0.1.
        path: with its query.
        fields: of its header.
        tls: a client context, or None for plain HTTP.
        timeout: seconds, for each step.

    Raises:
        OSError, http.client.HTTPException: there was no answer.
    """
    connection: http.client.HTTPConnection
    if tls is None:
        connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    else:
        connection = http.client.HTTPSConnection(HOST, port, timeout=timeout, context=tls)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=dict(fields or {}))
        response = connection.getresponse()
        names = {key.lower(): value for key, value in response.getheaders()}
        return Answer(response.status, response.reason, names, response.read())


def try_get(port: int, path: str, fields: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body of a GET; status 0 when there is no answer."""
    try:
        answer = get(port, path, fields)
    except NO_ANSWER:
        return 0, b""
    return answer.status, answer.body


class Admin:
    """Asks an admin port.

    Args:
        port: of 127.0.0.1.
        tls: a client context, or None for plain HTTP.

    Attributes:
        token: that is shown; none when empty.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.token = ""
        self._tls = tls

    def get(self, path: str, timeout: float = PATIENCE_S) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower-case names) and body."""
        fields = {"authorization": f"Bearer {self.token}"} if self.token else {}
        answer = get(self.port, path, fields, tls=self._tls, timeout=timeout)
        return answer.status, answer.fields, answer.body

    def json(self, path: str) -> Json:
        """The JSON of a 200."""
        status, _, body = self.get(path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def try_json(self, path: str) -> Json:
        """The JSON of a 200; None when there is another answer, or none."""
        try:
            status, _, body = self.get(path)
        except NO_ANSWER:
            return None
        return json.loads(body) if status == 200 else None

    def status(self, path: str) -> int:
        """Only the status; 0 when there is no answer."""
        try:
            return self.get(path)[0]
        except NO_ANSWER:
            return 0

    def endpoints(self) -> dict[str, int]:
        """The node's own registrations; empty while it does not answer."""
        found: dict[str, int] = self.try_json("/status/upstream/endpoints") or {}
        return found

    def rows(self) -> list[dict[str, Any]]:
        """The nodes that the node lists; none while it does not answer."""
        found: list[dict[str, Any]] = self.try_json("/status/cluster/nodes") or []
        return found

    def statuses(self) -> dict[str, str]:
        """The status of each node that the node lists, by ID."""
        return {row["id"]: row["status"] for row in self.rows()}

    def metric(self, name: str, labels: str = "") -> float:
        """The sum of a metric's samples whose labels contain `labels`."""
        return sum(value for found, value in self.samples(name) if labels in found)

    def samples(self, name: str) -> list[tuple[str, float]]:
        """Labels and value of each sample of a metric; none while the node does not answer."""
        try:
            _, _, body = self.get("/metrics")
        except NO_ANSWER:
            return []
        lines = [line[len(name) :] for line in body.decode().splitlines() if line.startswith(name)]
        parts = [line.rpartition(" ") for line in lines if line[:1] in (" ", "{")]
        return [(labels, float(value)) for labels, _, value in parts]
