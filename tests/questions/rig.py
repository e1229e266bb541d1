"""Three real nodes that authenticate, agents of several kinds, and clients: what the questions are asked of."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.ctl.harness import PROGRAM, Done, picoctl
from tests.system.cluster import SECRET, Cluster
from tests.system.service import Service, answer
from tests.system.wire import Request
from tools.stage.asking import Answer, get
from tools.stage.certificates import make
from tools.stage.nodes import Agent, Node, Settings, merged
from tools.stage.ports import unused_address
from tools.stage.processes import Process
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

NODES: Final = ("n1", "n2", "n3")
LATER: Final = "n4"
"""A node that comes later, and goes."""
OLD: Final = "0.0.9"
"""The version of what is old here."""
_OLD_PRELUDE: Final = f"import pico_twisted; pico_twisted.__version__ = '{OLD}'; "
ENDS_IN_DAYS: Final = 9
"""When the certificate of n2's proxy port ends, long before that of the others."""
SESSIONS_AT_N3: Final = 5
"""`limits.sessions` of n3."""
SLOW_S: Final = 0.4
"""Seconds that the slow service takes."""
RULES: Final = {
    "operator": ("admin:operate",),
    "agents": ("listen:*",),
    "lost": ("listen:lost",),
    "acme": ("listen:acme-*",),
}
"""The tokens, by name."""


class Rig:
    """The cluster. Close its stage when all has been asked.

    Args:
        directory: for configuration and output.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cluster = Cluster(directory)
        self.stage: Stage = self.cluster.stage
        self.fast, self.slow = Service(), Service()
        self.slow.handler = self._slowly
        self.tokens = directory / "tokens"
        for name, rules in RULES.items():
            given = [word for rule in rules for word in ("--rule", rule)]
            made = ("--file", str(self.tokens), "--token-file", str(self.token_file(name)))
            done = picoctl("token", "create", name, *given, *made)
            assert done.returncode == 0, done.stderr

    @staticmethod
    def _slowly(request: Request) -> bytes:
        time.sleep(SLOW_S)
        return answer(b"slow")

    def token_file(self, name: str) -> Path:
        """The file with the token of this name."""
        return self.directory / f"{name}.token"

    # -- what runs

    def start(self) -> None:
        """Start the nodes and the agents that all questions share."""
        for id in (*NODES, LATER):
            self.cluster.ports(id)
        for id in NODES:
            self.node(id)
        for id in NODES:
            self.cluster[id].wait_ready()
            self.cluster[id].admin.token = self.token_file("operator").read_text().strip()
        self.cluster.wait_all(NODES)
        self.agent("agent-a01", "n1", {"shop": self.fast.address, "acme-blog": self.fast.address})
        self.agent("agent-7f3", "n2", {"shop": self.fast.address})

    def node(self, id: str, *, old: bool = False) -> Node:
        """Start a node, and wait for nothing."""
        auth = {"auth": {"tokens_file": str(self.tokens)}}
        days = ENDS_IN_DAYS if id == "n2" else 90
        made = make(self.directory, f"proxy-{id}", names=("localhost", "127.0.0.1"), days=(-1, days))
        own: Settings = {
            "proxy": {"tls": {"cert": made.cert_file, "key": made.key_file}, "timeout": "5s"},
            "upstream": auth,
            "admin": auth,
            "endpoints": [{"match": "narrow", "in_flight": 1, "rate": "2/s"}],
            "grace_period": "3s",
            "limits": {"sessions": SESSIONS_AT_N3 if id == "n3" else 1000},
            "cluster": {
                "secrets": [SECRET],
                "join": [self.cluster.gossip_address(one) for one in (*NODES, LATER)],
                "revocations_file": str(self.directory / f"revoked-{id}"),
            },
        }
        return self.cluster.launch(id, own, prelude=_OLD_PRELUDE if old else "")

    def agent(
        self,
        name: str,
        node: str,
        listeners: Mapping[str, str],
        *,
        token: str = "agents",
        old: bool = False,
        wait: bool = True,
        settings: Settings | None = None,
    ) -> Agent:
        """Start an agent with one session for each listener."""
        shows = {"connect": {"token_file": str(self.token_file(token))}}
        return self.stage.agent(
            self.cluster[node],
            listeners,
            merged(shows, settings or {}),
            name=name,
            wait=wait,
            prelude=_OLD_PRELUDE if old else "",
        )

    def broken_agent(self) -> None:
        """Have an agent whose service does not run."""
        if "broken" not in self.cluster["n2"].admin.endpoints():
            self.agent("agent-b0b", "n2", {"broken": unused_address()})

    # -- who asks

    def request(self, node: str, endpoint: str, path: str = "/", fields: Mapping[str, str] | None = None) -> Answer:
        """A request of a client."""
        context = self.trusting(node)
        sent = {"x-pico-endpoint": endpoint, **(fields or {})}
        return get(self.cluster[node].ports.proxy, path, sent, tls=context)

    def trusting(self, node: str) -> ssl.SSLContext:
        """What a client of a node needs."""
        return ssl.create_default_context(cafile=str(self.directory / f"proxy-{node}.pem"))

    def wait_known(self, endpoint: str) -> None:
        """Wait until all nodes know an endpoint."""
        for id in NODES:
            admin = self.cluster[id].admin
            wait_until(lambda admin=admin: endpoint in (admin.try_json("/status/cluster/endpoints") or {}), endpoint)  # type: ignore[misc]

    def ask(self, command: tuple[str, ...], at: str = "n1", token: str = "operator") -> Done:
        """Run picoctl as an operator does at one of the nodes."""
        return picoctl(
            *command,
            cwd=self.directory,
            COLUMNS="200",
            PICO_ADMIN=self.admin_url(at),
            PICO_TOKEN_FILE=str(self.token_file(token)),
        )

    def follow(self, command: tuple[str, ...], at: str = "n1") -> Process:
        """Start picoctl as a process of its own, for what goes on."""
        env = {"COLUMNS": "200", "PICO_ADMIN": self.admin_url(at), "PICO_TOKEN_FILE": str(self.token_file("operator"))}
        return self.stage.add(Process(f"picoctl-{command[0]}", [*PROGRAM, *command], self.directory, env))

    def admin_url(self, node: str) -> str:
        """The URL of a node's admin port."""
        return f"http://127.0.0.1:{self.cluster[node].ports.admin}"

    def close(self) -> None:
        """End everything at once."""
        self.stage.close()
        self.fast.close()
        self.slow.close()
