"""A real fault for each alarm of etc/prometheus/pico.rules.yml."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pico_twisted.core.rpc.frames import REFUSED_BUSY
from tests.monitoring.scene import Scene
from tests.peers import v2
from tests.peers.pipe import Ended
from tools.stage.certificates import make
from tools.stage.waiting import PATIENCE_S

NOBODY: Final = "127.0.0.1:1"
"""Where nothing listens."""
_DAY_S: Final = 86400
_ODD: Final = (
    "import resource, time; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)); "
    "told = time.time; time.time = lambda: told() + 60; "
    "import pico_twisted; pico_twisted.__version__ = '0.0.9'; "
)
"""What makes a process one of an older version, with few descriptors and a wrong clock."""


def a_node_dies(scene: Scene) -> None:
    """Like a machine without power."""
    scene.nodes["n4"].kill()


def an_agent_is_stopped(scene: Scene) -> None:
    """Nobody else serves its endpoints."""
    scene.agents["a-gone"].terminate()


def a_node_drains_for_long(scene: Scene) -> None:
    """A stream holds it."""
    scene.get("n5", "web", "/endless")
    scene.open[-1].recv(1)  # the stream has begun
    scene.nodes["n5"].terminate()


def a_node_is_cordoned(scene: Scene) -> None:
    """Somebody takes it out."""
    picoctl = Path(sys.executable).with_name("picoctl")
    url = f"http://127.0.0.1:{scene.nodes['n3'].ports.admin}"
    subprocess.run([picoctl, "cordon", "n3", "--admin", url], check=True, capture_output=True)


def links_are_refused(scene: Scene) -> None:
    """A node takes one link alone, and three nodes want one."""
    scene.node("n6", {"limits": {"links": 1}})
    scene.agent("a-far", "n6", {"far": scene.service.address})
    for id in ("n1", "n2"):
        scene.load(id, "far")


def a_node_is_odd(scene: Scene) -> None:
    """It is of another version, its clock is wrong, its disk is full, and it has few descriptors."""
    scene.node("n7", {"proxy": {"access_log_file": "/dev/full", "head_timeout": "5m"}}, prelude=_ODD)
    scene.load("n7", "web")
    for _ in range(70):
        scene.connect("n7")


def a_machine_is_paused(scene: Scene) -> None:
    """A node stands still again and again."""
    _stands_still(scene, "n10", 1.2, 0.7)


def a_node_gets_no_cpu(scene: Scene) -> None:
    """A node stands still nearly all the time."""
    _stands_still(scene, "n12", 0.9, 0.1)


def _stands_still(scene: Scene, id: str, stands_s: float, runs_s: float) -> None:
    node = scene.node(id)

    def stand_still() -> None:
        with contextlib.suppress(ProcessLookupError):  # it may be killed while it stands still, when all is over
            while not scene.over.wait(runs_s):
                os.kill(node.pid, signal.SIGSTOP)
                time.sleep(stands_s)  # no condition is waited for: that this time goes by is the fault
                os.kill(node.pid, signal.SIGCONT)

    threading.Thread(target=stand_still, daemon=True).start()


def gossip_with_another_secret(scene: Scene) -> None:
    """Nodes that have another one try to join."""
    for id in ("n8", "n11"):
        scene.node(id, {"cluster": {"secrets": ["a-secret-of-somebody-else"], "join_timeout": "10m"}}, wait=False)


def services_fail(scene: Scene) -> None:
    """The service of all agents of an endpoint is away, others are slow, and a client does not wait for them."""
    scene.load("n1", "broken", clients=2)
    scene.load("n1", "limited")
    scene.load("n1", "web", "/slow", clients=20)
    scene.get("n1", "web", "/slow")
    scene.open.pop().close()


def an_agent_refuses(scene: Scene) -> None:
    """One of two agents has as many calls as it takes, all the time: each of its requests is tried at the other."""
    full = v2.Agent(scene.nodes["n1"].upstream, "both", agent_id="a-full")

    def refuse() -> None:
        with contextlib.suppress(OSError, Ended):
            while not scene.over.is_set():
                full.reset(full.next_call(PATIENCE_S).call, REFUSED_BUSY, response=True)

    threading.Thread(target=refuse, daemon=True).start()
    scene.load("n1", "both", clients=3)


def agents_come_back_again_and_again(scene: Scene) -> None:
    """A program registers, and leaves at once."""

    def run() -> None:
        while not scene.over.wait(0.05):  # a pace, so that the test does not use up a core
            with contextlib.suppress(OSError, Ended):
                v2.Agent(scene.nodes["n1"].upstream, "loop").close()

    threading.Thread(target=run, daemon=True).start()


def limits_are_near(scene: Scene) -> None:
    """Many connections, of which most read nothing of what they asked for."""
    for _ in range(26):
        scene.get("n2", "web", "/large")
    for _ in range(10):
        scene.connect("n2")


def a_certificate_ends(scene: Scene) -> None:
    """The files are replaced by those of one that is good for two days."""
    make(scene.stage.directory, "proxy", days=(-1, 2))
    scene.nodes["n3"].signal(signal.SIGHUP)


def a_reload_fails(scene: Scene) -> None:
    """The file has a mistake."""
    scene.nodes["n1"].write_settings({"log": {"level": "loud"}})
    scene.nodes["n1"].signal(signal.SIGHUP)


def agents_are_away(scene: Scene) -> None:
    """One is dead; one knows no node."""
    scene.agents["a-dies"].kill()
    scene.agent("a-lost", f"http://{NOBODY}", {"lost": scene.service.address})


def a_credential_ends(scene: Scene) -> None:
    """An agent has a token for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    file = scene.stage.directory / "key.pem"
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    file.write_bytes(key.public_key().public_bytes(*form))
    scene.node("n9", {"upstream": {"auth": {"jwt": {"keys": [str(file)]}}}})
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=_DAY_S)
    token = jwt.encode({"sub": "a", "exp": until, "pico": {"rules": ["listen:*"]}}, key, "ES256")
    scene.agent("a-ends", "n9", {"ends": scene.service.address}, {"connect": {"token": token}})


FAULTS: Final[dict[str, Callable[[Scene], None]]] = {
    "PicoNodeDown": a_node_dies,
    "PicoNodeNotReady": a_node_drains_for_long,
    "PicoNodeUnreachable": a_node_dies,
    "PicoNodeCordoned": a_node_is_cordoned,
    "PicoLinkFailing": links_are_refused,
    "PicoVersionSkew": a_node_is_odd,
    "PicoGossipRefused": gossip_with_another_secret,
    "PicoErrors": services_fail,
    "PicoSlow": services_fail,
    "PicoRetries": an_agent_refuses,
    "PicoEndpointGone": an_agent_is_stopped,
    "PicoEndpointOut": services_fail,
    "PicoAgentsReconnecting": agents_come_back_again_and_again,
    "PicoNearLimit": limits_are_near,
    "PicoMemoryNearBudget": limits_are_near,
    "PicoOpenFiles": a_node_is_odd,
    "PicoBusy": a_machine_is_paused,
    "PicoOverloaded": a_node_gets_no_cpu,
    "PicoCertificateEndsSoon": a_certificate_ends,
    "PicoCertificateEnds": a_certificate_ends,
    "PicoReloadFailed": a_reload_fails,
    "PicoLogLinesLost": a_node_is_odd,
    "PicoClock": a_node_is_odd,
    "PicoPaused": a_machine_is_paused,
    "PicoAgentDown": agents_are_away,
    "PicoAgentNotRegistered": agents_are_away,
    "PicoAgentService": services_fail,
    "PicoAgentServiceOut": services_fail,
    "PicoAgentCredentialEnds": a_credential_ends,
}
"""What makes each alarm fire."""
