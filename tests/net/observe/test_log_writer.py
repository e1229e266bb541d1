"""Streams that break, block or are shared: what becomes of the lines of the log."""

from __future__ import annotations

import fcntl
import io
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

from pico_twisted.net.observe.lines import (
    MAX_PENDING_BYTES,
    LineWriter,
)

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60


class TestBrokenStreams:
    def writer(self, stream: Any) -> LineWriter:
        return LineWriter(stream, lambda count: f"lost {count}\n")

    def test_reader_gone(self) -> None:
        """Nothing is raised when nobody reads stderr any more."""
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w", buffering=1) as stream:
            writer = self.writer(stream)
            for _ in range(3):
                writer.write("line\n")
            assert writer.lost == 3

    def test_full_disk(self) -> None:
        """Nothing is raised when the disk is full."""
        with open("/dev/full", "w") as stream:
            writer = self.writer(stream)
            writer.write("one\ntwo\n")
            writer.write("three\n")
            assert writer.lost == 3
            writer.flush(1.0)

    def test_closed(self) -> None:
        """Nor when the stream is closed, with a descriptor or without."""
        for stream in (io.StringIO(), open(os.devnull, "w")):  # noqa: SIM115
            writer = self.writer(stream)
            stream.close()
            writer.write("line\n")
            assert writer.lost == 1

    def test_told_afterwards(self) -> None:
        """When lines can be written again, one says how many were lost."""

        class Sometimes(io.StringIO):
            broken = False

            def write(self, text: str) -> int:
                if self.broken:
                    raise OSError("no space")
                return super().write(text)

        stream = Sometimes()
        writer = self.writer(stream)
        writer.write("one\n")
        stream.broken = True
        writer.write("two\nthree\n")
        writer.write("four\n")
        stream.broken = False
        writer.write("five\n")
        writer.write("six\n")
        assert stream.getvalue() == "one\nlost 3\nfive\nsix\n"
        assert writer.lost == 0

    def test_slow_reader(self) -> None:
        """A full non-blocking stream keeps lines waiting, a bounded amount, and each arrives whole and in order."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        os.set_blocking(reading, False)
        fcntl.fcntl(writing, 1031, 4096)  # F_SETPIPE_SZ
        with os.fdopen(writing, "w") as stream, os.fdopen(reading, "rb", buffering=0) as reader:
            writer = self.writer(stream)
            count = 0
            while not writer.lost:
                writer.write(f"{count} {'x' * 1000}\n")
                count += 1
            assert 0.9 * MAX_PENDING_BYTES < count * 1000 < 1.1 * MAX_PENDING_BYTES
            found = b""
            while piece := reader.read(1 << 20):
                found += piece
                writer.flush()
            writer.write("last\n")
            found += reader.read(1 << 20) or b""
            lines = found.decode().split("\n")
            assert [line.split()[0] for line in lines[:-4]] == [str(n) for n in range(count - 1)][: len(lines) - 4]
            assert lines[-3:] == ["lost 1", "last", ""]
            assert {len(line) for line in lines[:-3]} <= {1002, 1003, 1004, 1005}

    def test_lines_of_two_processes(self) -> None:
        """In a pipe that is full again and again lines of several writers stay whole, long ones apart."""
        reading, writing = os.pipe()
        fcntl.fcntl(writing, 1031, 8192)  # F_SETPIPE_SZ
        text = "".join(f"{number} {'x' * 300}\n" for number in range(2000))
        streams = [os.fdopen(os.dup(writing), "w") for _ in range(2)]
        threads = [threading.Thread(target=self.writer(stream).write, args=(text,)) for stream in streams]
        for thread in threads:
            thread.start()
        found = b""
        while found.count(b"\n") < 4000:
            found += os.read(reading, 1000)
        for thread in threads:
            thread.join()
        for stream in streams:
            stream.close()
        os.close(reading)
        os.close(writing)
        assert sorted(found.decode().splitlines()) == sorted(2 * text.splitlines())

    def test_torn_line(self, tmp_path: Path) -> None:
        """A line of which only a part could be written is ended before the next one."""
        path = tmp_path / "log"
        program = """
            import os, resource, signal, sys
            from pico_twisted.net.observe.lines import LineWriter
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            stream = open(sys.argv[1], "w")
            writer = LineWriter(stream, lambda count: f"lost {count}\\n")
            resource.setrlimit(resource.RLIMIT_FSIZE, (50, resource.RLIM_INFINITY))
            writer.write("a" * 39 + "\\n")
            writer.write("b" * 39 + "\\n")
            writer.write("c" * 39 + "\\n")
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            writer.write("d\\n")
        """
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), str(path)], check=True, cwd=ROOT, timeout=DEADLINE_S
        )
        assert path.read_text().split("\n") == ["a" * 39, "b" * 10, "lost 2", "d", ""]
