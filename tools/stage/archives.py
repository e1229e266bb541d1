"""What is in archives that tests make or find."""

from __future__ import annotations

import tarfile
from pathlib import Path


def unpack(archive: tarfile.TarFile, directory: Path | str) -> None:
    """Write what is in an archive into a directory, and nothing beside it where Python can see to that."""
    archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11 has it from 3.11.4 on
    archive.extractall(directory)
