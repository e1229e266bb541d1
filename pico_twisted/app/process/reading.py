"""Files that are read while the reactor runs: not for longer than a moment, whatever their disk does."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from pico_twisted.config import ConfigFaults, Fault

READ_S: Final = 2.0
"""Most seconds for which the reactor waits for the files of a configuration. A disk of this machine has them in
milliseconds; one on the network that is away, or a pipe, may never have them."""

T = TypeVar("T")


def read_in_time(read: Callable[[], T], timeout_s: float = READ_S) -> T:
    """Read files in a thread, which is left behind when it takes too long.

    Args:
        read: reads them, and changes nothing.
        timeout_s: how long it may take.

    Raises:
        ConfigFaults: it took longer. What `read` raises is raised too.
    """
    done: queue.SimpleQueue[T | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put(read())
        except Exception as error:
            done.put(error)

    threading.Thread(target=run, name="reading", daemon=True).start()
    try:
        found = done.get(timeout=timeout_s)
    except queue.Empty:
        slow = Fault(
            path="files of the configuration",
            found=f"that they are not read within {timeout_s:g} s",
            expected="a disk that answers",
        )
        raise ConfigFaults([slow]) from None
    if isinstance(found, Exception):
        raise found
    return found
