"""The unit of a service: the package's sample, with the paths of this machine.

A unit that picoctl wrote has a first line with the hash of the rest. So one that an operator has changed or written is
known, and is not written over. A sample as it is in the package counts as ours, too: that is what an installation by
hand puts there.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from pico_twisted.ctl.exits import SaidNo
from pico_twisted.ctl.service.daemons import Daemon

SAMPLE_BIN: Final = "/opt/pico/venv/bin"
"""Where the samples have the commands."""
SAMPLE_DIRECTORY: Final = "/etc/pico"
"""Where the samples have the configuration."""
_SEAL: Final = "# Written by picoctl service install. Changes go into a drop-in, by systemctl edit {unit}. {hash}\n"
_SEALED: Final = re.compile(r"# Written by picoctl service install\..* ([0-9a-f]{64})\n")


def unit_text(sample: str, daemon: Daemon, *, bin_directory: str, config: str, user: str) -> str:
    """The unit of a service.

    Args:
        sample: the package's.
        daemon: of which kind it is.
        bin_directory: where twistd and picoctl are.
        config: path of the configuration.
        user: who it runs as.

    Raises:
        SaidNo: the sample is not the one of this version.
    """
    text = sample
    for old, new in (
        (f"{SAMPLE_BIN}/twistd ", f"{bin_directory}/twistd "),
        (f"{SAMPLE_BIN}/picoctl ", f"{bin_directory}/picoctl "),
        (f"--config {SAMPLE_DIRECTORY}/{daemon.config}\n", f"--config {config}\n"),
        (f"\nUser={daemon.unit}\n", f"\nUser={user}\n"),
    ):
        if text.count(old) != 1:
            raise SaidNo(
                f"the sample of {daemon.unit}.service is of another version: it should have {old.strip()!r} once"
            )
        text = text.replace(old, new)
    seal = _SEAL.format(unit=daemon.unit, hash=_hash(text))
    return seal + text


def is_ours(text: str, sample: str) -> bool:
    """Whether a unit may be written over: nobody has changed what picoctl or an installation by hand put there."""
    sealed = _SEALED.match(text)
    if sealed is None:
        return text == sample
    return sealed[1] == _hash(text[sealed.end() :])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
