"""`picoctl completion` in a real bash; zsh and fish are in tests/programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ctl.harness import environment, http_answer, picoctl, serving
from tests.peers.pipe import Pipe

NODES = [{"id": id, "status": "active", "proxy_addr": "", "admin_addr": ""} for id in ("n1", "n2", "other")]


def answers(pipe: Pipe, head: bytes) -> None:
    """An admin port that knows three nodes and two endpoints."""
    data = {"shop": {"n1": 1}, "shipping": {"n2": 1}} if b"endpoints" in head else NODES
    pipe.send(http_answer(json.dumps(data).encode()))


def completed(tmp_path: Path, words: list[str], admin: str = "http://127.0.0.1:1") -> list[str]:
    """What bash offers for the last of some words."""
    script = tmp_path / "completion"
    script.write_text(picoctl("completion", "bash").stdout)
    program = tmp_path / "picoctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from pico_twisted.ctl.main import main; main()" "$@"\n')
    program.chmod(0o755)
    asked = f"""
source {script}
COMP_WORDS=({" ".join(f"'{word}'" for word in words)}); COMP_CWORD={len(words) - 1}
function=$(complete -p {words[0]} | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function {words[0]} '{words[-1]}' '{words[-2]}'
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", asked],
        env=environment(PATH=path, PICO_ADMIN=admin),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_and_options(tmp_path: Path) -> None:
    """The commands of picoctl, those below them, and their options."""
    assert completed(tmp_path, ["picoctl", "dr"]) == ["drain"]
    assert completed(tmp_path, ["picoctl", "status", "n"]) == ["node", "nodes"]
    assert completed(tmp_path, ["picoctl", "drain", "--wi"]) == ["--within"]


def test_ids(tmp_path: Path) -> None:
    """IDs of nodes and endpoints come from the node that is asked; without one there are none."""
    with serving(answers) as url:
        assert completed(tmp_path, ["picoctl", "drain", "n"], url) == ["n1", "n2"]
        assert completed(tmp_path, ["picoctl", "status", "--forward", "o"], url) == ["other"]
        assert completed(tmp_path, ["picoctl", "endpoint", "sh"], url) == ["shipping", "shop"]
    assert completed(tmp_path, ["picoctl", "drain", "n"]) == []


@pytest.mark.parametrize("before", [["pico-node"], ["twistd", "-n", "pico"]])
def test_daemons(tmp_path: Path, before: list[str]) -> None:
    """Flags of the daemons, files and booleans behind them, also behind `=`, where bash begins another word."""
    assert completed(tmp_path, [*before, "--proxy.bind"]) == ["--proxy.bind-addr"]
    (tmp_path / "here.yaml").touch()
    assert completed(tmp_path, [*before, "--config", "here"]) == ["here.yaml"]
    assert completed(tmp_path, [*before, "--proxy.via", "t"]) == ["true"]
    assert completed(tmp_path, [*before, "--proxy.via", "=", "t"]) == ["true"]
    assert completed(tmp_path, [*before, "--proxy.via", "="]) == ["true", "false"]
    assert completed(tmp_path, [*before, "--proxy.timeout", ""]) == []
