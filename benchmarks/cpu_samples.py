"""Where a process spends its CPU time: which functions run when so much of it has been used.

The kernel's timer of used CPU time (ITIMER_PROF) runs in the process itself. One that waits, for events or for a CPU
that others have, uses none and is not sampled. Time in C code, and of the kernel in it, counts for the function of
Python that called it. The process that is profiled runs `PRELUDE` first; `Sampler`, in the benchmark, says when to
begin and when to end, so that its start is not in the samples.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

from tools.stage.processes import Process
from tools.stage.waiting import StageFailed

PRELUDE: Final = "from benchmarks.cpu_samples import listen; listen({path!r}); "
"""What a process runs first that is to be sampled, with where the samples go."""

SAMPLE_S: Final = 0.004
"""CPU seconds between two samples. Many kernels look at the timer no more often than this."""
_BEGIN: Final = signal.SIGRTMIN
_END: Final = signal.SIGRTMIN + 1


def listen(path: str) -> None:
    """Begin and end to sample this process when a benchmark asks for it.

    Args:
        path: where the samples are written, as collapsed stacks: `outer (file);inner (file) samples` in each line.
    """
    stacks: Counter[tuple[str, ...]] = Counter()

    def sample(number: int, frame: FrameType | None) -> None:
        names = []
        while frame is not None:
            names.append(f"{frame.f_code.co_qualname} ({_short(frame.f_code.co_filename)})")
            frame = frame.f_back
        stacks[tuple(reversed(names))] += 1

    def begin(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_S, SAMPLE_S)

    def end(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        written = Path(f"{path}.part")
        written.write_text("".join(f"{';'.join(stack)} {count}\n" for stack, count in stacks.items()))
        written.rename(path)

    for number, action in ((signal.SIGPROF, sample), (_BEGIN, begin), (_END, end)):
        signal.signal(number, action)
        signal.siginterrupt(number, False)


def _short(file: str) -> str:
    """The last parts of a file's name: enough to find it."""
    return "/".join(Path(file).parts[-3:])


class Sampler:
    """Samples a daemon from now until `end`.

    Args:
        process: that ran `PRELUDE`.
        path: that it was given.
    """

    def __init__(self, process: Process, path: Path) -> None:
        self._process = process
        self._path = path
        os.kill(process.pid, _BEGIN)

    def end(self) -> str:
        """Stop sampling; the collapsed stacks."""
        os.kill(self._process.pid, _END)
        self._process.wait_until(self._path.exists, f"the samples of {self._process.name}")
        text = self._path.read_text()
        if not text:
            raise StageFailed(f"{self._process.name} used no CPU")
        return text
