"""The file of a snapshot: a tar archive of JSON and texts, written for its owner alone, and read with bounds.

It is never unpacked: whoever sent it may have put anything into it.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import time
import zlib
from collections.abc import Mapping
from typing import Any, Final

import attrs

from pico_twisted.ctl.exits import SaidNo

MAX_MEMBER_BYTES: Final = 64 << 20
"""Most bytes of one part that are read."""
MAX_BYTES: Final = 256 << 20
"""Most bytes of all parts together."""
MAX_MEMBERS: Final = 10_000
"""Most parts that are read: a few for each of many nodes."""
MOST_AT_S: Final = 1 << 40
"""No snapshot is taken later, in seconds since 1970."""
ABOUT: Final = "about.json"
"""The part that says of what and of when a snapshot is."""

Data = Any  # as it was decoded


@attrs.frozen
class Snapshot:
    """The parts of a snapshot.

    Attributes:
        parts: by their names: texts, or what JSON can hold where a name ends with `.json`.
    """

    parts: Mapping[str, Data]

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of a part that is a list of objects; none when it is missing or something else."""
        found = self.parts.get(name)
        return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []

    def mapping(self, name: str) -> dict[str, Any]:
        """A part that is an object; empty when it is missing or something else."""
        found = self.parts.get(name)
        return found if isinstance(found, dict) else {}

    def nodes(self, part: str) -> dict[str, Data]:
        """A part of each node that has it, by node ID."""
        found = {}
        for name, value in self.parts.items():
            folder, _, rest = name.partition("/")
            id, _, last = rest.rpartition("/")
            if folder == "nodes" and last == part:
                found[id] = value
        return found

    @property
    def at_s(self) -> float:
        """When it was taken, in seconds since 1970; 0 when it does not say that."""
        found = self.mapping(ABOUT).get("at_s")
        return float(found) if isinstance(found, int | float) and 0 <= found <= MOST_AT_S else 0.0


def write(snapshot: Snapshot, path: str) -> None:
    """Write a file that is not there yet, for its owner alone. Raises SaidNo."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, value in snapshot.parts.items():
                text = json.dumps(value, indent=1) if name.endswith(".json") else str(value)
                data = text.encode("utf-8", "backslashreplace")
                member = tarfile.TarInfo(name)
                member.size, member.mode, member.mtime = len(data), 0o600, int(time.time())
                archive.addfile(member, io.BytesIO(data))
    except FileExistsError:
        raise SaidNo(f"{path} is there already") from None
    except OSError as error:
        raise SaidNo(f"{path} cannot be written: {error.strerror}") from None


class _Bounded(gzip.GzipFile):
    """What is in a file, of which nobody takes more at once than a part may have: `tarfile` reads what stands before a
    part whole, however long it says that it is."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_MEMBER_BYTES:
            raise tarfile.ReadError("too much at once")
        return super().read(size)


def read(path: str) -> Snapshot:
    """Read a file. Raises SaidNo: it is no snapshot."""
    parts: dict[str, Data] = {}
    room = MAX_BYTES
    try:
        with _Bounded(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for count, member in enumerate(archive):
                room -= member.size
                fits = member.isreg() and 0 <= member.size <= MAX_MEMBER_BYTES
                if not fits or room < 0 or count >= MAX_MEMBERS:
                    raise SaidNo(f"{path} is no snapshot, or too large to be read")
                part = archive.extractfile(member)
                assert part is not None
                text = part.read(MAX_MEMBER_BYTES).decode("utf-8", "replace")
                parts[member.name] = json.loads(text) if member.name.endswith(".json") else text
    except OSError as error:
        raise SaidNo(f"{path} cannot be read: {error.strerror or 'no snapshot'}") from None
    except (tarfile.TarError, zlib.error, EOFError, ValueError, RecursionError):
        raise SaidNo(f"{path} is no snapshot") from None
    if ABOUT not in parts:
        raise SaidNo(f"{path} is no snapshot")
    return Snapshot(parts)
