"""Streams that break, hang or are shared, files that are rotated: what becomes of the lines of the log."""

from __future__ import annotations

import fcntl
import io
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pico_twisted.net.observe.writer import MAX_WAITING_BYTES, LineWriter, LogFile

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60
F_SETPIPE_SZ = 1031


def own_line(message: str, /, **fields: str | int) -> str:
    """A line of the log about the log."""
    return " ".join(map(str, ("lost" if "lost" in message else message, *fields.values()))) + "\n"


def started(target: Any) -> LineWriter:
    """A writer that writes."""
    writer = LineWriter(target, own_line)
    writer.start()
    return writer


@pytest.fixture
def small_pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe that holds 4 KiB: what is read, and what is written to."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, F_SETPIPE_SZ, 4096)
    yield reading, writing
    for descriptor in (reading, writing):
        os.close(descriptor)


def read_lines(descriptor: int, until: bytes) -> list[str]:
    """The lines that come, up to one that begins so."""
    found = b""
    while b"\n" + until not in b"\n" + found or not found.endswith(b"\n"):
        found += os.read(descriptor, 1 << 16)
    return found.decode().splitlines()


class TestBrokenStreams:
    def test_reader_gone(self) -> None:
        """Nothing is raised when nobody reads stderr any more."""
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w", buffering=1) as stream:
            writer = started(stream)
            for _ in range(3):
                writer.write("line\n")
            writer.close(DEADLINE_S)
            assert writer.lost == 3

    def test_full_disk(self) -> None:
        """Nothing is raised when the disk is full."""
        with open("/dev/full", "w") as stream:
            writer = started(stream)
            writer.write("one\ntwo\n")
            writer.write("three\n")
            writer.close(DEADLINE_S)
            assert writer.lost == 3

    def test_closed(self) -> None:
        """Nor when the stream is closed, with a descriptor or without."""
        for stream in (io.StringIO(), open(os.devnull, "w")):  # noqa: SIM115
            writer = started(stream)
            stream.close()
            writer.write("line\n")
            writer.close(DEADLINE_S)
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
        writer = started(stream)
        writer.write("one\n")
        stream.broken = True
        writer.write("two\nthree\n")
        writer.write("four\n")
        stream.broken = False
        writer.write("five\n")
        writer.write("six\n")
        assert stream.getvalue() == "one\nfive\nlost 3\nsix\n"
        assert writer.lost == 3

    @pytest.mark.parametrize("blocking", [True, False])
    def test_reader_that_stands_still(self, small_pipe: tuple[int, int], blocking: bool) -> None:
        """A reader that stands still holds nobody up, the end of the process neither. A bounded amount of lines waits;
        when it goes on each arrives whole and in order, and one says how many are lost, though no other follows."""
        reading, writing = small_pipe
        os.set_blocking(writing, blocking)
        with os.fdopen(os.dup(writing), "w") as stream:
            writer = started(stream)
            count = 0
            while writer.lost < 7:
                writer.write(f"{count} {'x' * 1000}\n")
                count += 1
            assert 0.9 * MAX_WAITING_BYTES < count * 1000 < 1.1 * MAX_WAITING_BYTES
            writer.close(0.001)
            lines = read_lines(reading, b"lost")
            assert lines == [f"{number} {'x' * 1000}" for number in range(count - 7)] + ["lost 7"]
            writer.write("last\n")
            assert read_lines(reading, b"last") == ["last"]
            assert writer.lost == 7

    def test_lines_of_two_processes(self, small_pipe: tuple[int, int]) -> None:
        """In a pipe that is full again and again lines of several writers stay whole, long ones apart."""
        reading, writing = small_pipe
        text = "".join(f"{number} {'x' * 300}\n" for number in range(400))
        streams = [os.fdopen(os.dup(writing), "w") for _ in range(2)]
        for stream in streams:
            started(stream).write(text)
        found = b""
        while found.count(b"\n") < 800:
            found += os.read(reading, 1000)
        for stream in streams:
            stream.close()
        assert sorted(found.decode().splitlines()) == sorted(2 * text.splitlines())

    def test_torn_line(self, tmp_path: Path) -> None:
        """A line of which only a part could be written is ended before the next one."""
        path = tmp_path / "log"
        program = """
            import resource, signal, sys
            from pico_twisted.net.observe.writer import LineWriter
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            stream = open(sys.argv[1], "w")
            writer = LineWriter(stream, lambda message, lost: f"lost {lost}\\n")
            resource.setrlimit(resource.RLIMIT_FSIZE, (50, resource.RLIM_INFINITY))
            for line in ("a" * 39 + "\\n", "b" * 39 + "\\n", "c" * 39 + "\\n"):
                writer.write(line)
                writer.close(60)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            writer.write("d\\n")
            writer.close(60)
        """
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), str(path)], check=True, cwd=ROOT, timeout=DEADLINE_S
        )
        assert path.read_text().split("\n") == ["a" * 39, "b" * 10, "d", "lost 2", ""]

    def test_before_the_start(self, small_pipe: tuple[int, int]) -> None:
        """Lines wait until the process stays what it is; those of one that ends before come out all the same."""
        reading, writing = small_pipe
        with os.fdopen(os.dup(writing), "w") as stream:
            writer = LineWriter(stream, own_line)
            writer.write("early\n")
            os.set_blocking(reading, False)
            with pytest.raises(BlockingIOError):
                os.read(reading, 1)
            writer.close(DEADLINE_S)
            assert os.read(reading, 100) == b"early\n"


class TestFiles:
    def test_renamed(self, tmp_path: Path) -> None:
        """After a rename lines go on in the old file until it is opened again, and then in a new one; none is lost."""
        path, old = tmp_path / "log", tmp_path / "log.1"
        writer = started(LogFile(str(path)))
        writer.write("one\n")
        writer.close(DEADLINE_S)
        path.rename(old)
        writer.write("two\n")
        writer.close(DEADLINE_S)
        writer.reopen()
        writer.write("three\n")
        writer.close(DEADLINE_S)
        assert (old.read_text(), path.read_text()) == ("one\ntwo\n", "three\n")

    def test_truncated(self, tmp_path: Path) -> None:
        """In a file that another program copied and truncated lines begin at the top, without a hole before them."""
        path = tmp_path / "log"
        writer = started(LogFile(str(path)))
        writer.write("one\n")
        writer.close(DEADLINE_S)
        os.truncate(path, 0)
        writer.write("two\n")
        writer.close(DEADLINE_S)
        assert path.read_bytes() == b"two\n"

    def test_not_opened_again(self, tmp_path: Path) -> None:
        """When the file cannot be opened again lines go on in the old one, which says so."""
        path = tmp_path / "directory" / "log"
        path.parent.mkdir()
        writer = started(LogFile(str(path)))
        path.parent.rename(tmp_path / "moved")
        writer.reopen()
        writer.write("one\n")
        writer.close(DEADLINE_S)
        told, line = (tmp_path / "moved" / "log").read_text().splitlines()
        assert told.startswith(f"the log file cannot be opened again {path} ")
        assert line == "one"

    def test_no_file(self, tmp_path: Path) -> None:
        """A file in a directory that is not there is a fault at the start."""
        with pytest.raises(FileNotFoundError):
            LogFile(str(tmp_path / "no" / "log"))
