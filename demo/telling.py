"""What the demo prints: its own words, commands that can be pasted, and lines of logs for people."""

from __future__ import annotations

import json
import shlex
import shutil
import textwrap
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

WIDTH = 96


def say(text: str = "") -> None:
    """Print a line at once."""
    print(text, flush=True)


def indented(text: str) -> None:
    """Print what somebody else said."""
    for line in text.splitlines():
        say(f"     | {line}".rstrip())


def show_command(words: Sequence[str]) -> None:
    """Print a command line that can be pasted, a flag and its value never apart."""
    groups: list[str] = []
    for word in words:
        starts = word.startswith("-") or not groups or not groups[-1].startswith("--") or " " in groups[-1]
        quoted = shlex.quote(word)
        groups = [*groups, quoted] if starts else [*groups[:-1], f"{groups[-1]} {quoted}"]
    lines = [groups[0]]
    for group in groups[1:]:
        if len(lines[-1]) + len(group) < WIDTH - 10:
            lines[-1] += f" {group}"
        else:
            lines.append(f"  {group}")
    say("     " + " \\\n     ".join(lines))


def listed(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def show_log_line(name: str, line: str) -> None:
    """Print a line of a log for a person: local time, who, what."""
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or "message" not in record:
        stamp, text = time.strftime("%H:%M:%S"), line
    else:
        stamp, text = _local_time(str(record.get("time", ""))), _words(record)
    width = min(shutil.get_terminal_size().columns, 120)
    intro = f"{stamp}  {name:<9}  "
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width - len(intro)) or [""]]
    for part in lines:
        say(f"{intro}{part}".rstrip())
        intro = " " * len(intro)


def _local_time(stamp: str) -> str:
    try:
        return datetime.fromisoformat(stamp).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return time.strftime("%H:%M:%S")


def _words(record: dict[str, Any]) -> str:
    if record.get("subsystem") == "access":
        took = f"{float(record['duration_s']) * 1000:.1f} ms"
        text = f"{record['method']} {record['target']} -> {record['status']} in {took}, {record['bytes_out']} bytes"
        text += f", for {record['endpoint']}" if record.get("endpoint") else ""
        text += f", by {record['upstream']}" if record.get("upstream") else ""
        return text + (f", error {record['error']}" if record.get("error") else "")
    level = record.get("level", "info")
    text = str(record["message"])
    if level != "info":
        text = f"{level}: {text}"
    if record.get("reason") and str(record["reason"]) not in text:
        text += f" ({record['reason']})"
    return f"{text}\n{record['traceback']}" if record.get("traceback") else text
