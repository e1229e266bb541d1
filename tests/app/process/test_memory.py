"""What a burst took goes back to the system."""

from __future__ import annotations

import subprocess
import sys

from pico_twisted.app.process.memory import AGAIN_S, LEAST_BYTES, Ebb

BURST = """
import random
from pico_twisted.app.process.memory import LEAST_BYTES, give_memory_back

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

held, stays = [], []
look = give_memory_back(lambda: sum(map(len, held)))
for number in range(4000):
    held.append(bytes(random.choice((4096, 16384, 61440))))
    if number % 10 == 0:
        stays.append(bytes(2000))  # what goes on lies between what the burst took
look(0.0)
full = resident()
random.shuffle(held)
held.clear()
look(1.0)
print((full - resident()) // LEAST_BYTES)
"""


def test_a_burst_leaves_nothing_behind() -> None:
    """After 100 MB for slow clients, of which some memory in between goes on being used, the process is small again."""
    found = subprocess.run([sys.executable, "-c", BURST], capture_output=True, text=True, check=True)
    assert int(found.stdout) >= 2


def test_when() -> None:
    """Memory is given back when much less is held than before, not for little, and not again and again."""
    held = 0
    times: list[float] = []
    now = 0.0

    def look(bytes_held: int, at: float) -> None:
        nonlocal held, now
        held, now = bytes_held, at
        ebb.look(at)

    ebb = Ebb(lambda: held, lambda: times.append(now))
    for at in range(10):
        look(at * LEAST_BYTES // 10, float(at))
    look(0, 10.0)
    assert not times
    look(3 * LEAST_BYTES, 11.0)
    look(1 * LEAST_BYTES, 12.0)
    look(0, 12.2)
    look(0, 12.0 + AGAIN_S / 2)
    assert times == [12.0]
    look(0, 12.0 + AGAIN_S)
    look(0, 100.0)
    assert times == [12.0, 12.0 + AGAIN_S]
