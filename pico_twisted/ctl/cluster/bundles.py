"""What a new cluster consists of, as the texts of files: an archive for each node, one for agents, and what operators
keep.

The names in the archives do not meet when a node and an agent are on one machine, whose users are different ones.
"""

from __future__ import annotations

import base64
import io
import json
import secrets
import tarfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Final

import attrs

from pico_twisted.core.access.credentials_file import TOKEN_PREFIX, hash_of
from pico_twisted.core.text import host_port
from pico_twisted.ctl.cluster.authority import NODE_DAYS, Authority, Pem

SECRET_BYTES: Final = 32
FILE_MODE: Final = 0o600
RULES: Final[Mapping[str, str]] = {"operator": "admin:operate", "prometheus": "admin:read", "agent": "listen:*"}
"""The tokens of a new cluster: what each of them allows."""
PORTS: Final[Mapping[str, int]] = {"proxy": 8000, "admin": 8001, "upstream": 8002, "gossip": 8003}


@attrs.frozen(kw_only=True)
class NewCluster:
    """What somebody wants.

    Attributes:
        name: of the cluster.
        hosts: an IP or a host name for each node, under which the others, agents and operators reach it.
        public_url: where clients reach endpoints; empty when that is not said.
        directory: where the files are on the machines.
    """

    name: str
    hosts: Sequence[str]
    public_url: str
    directory: str

    @property
    def nodes(self) -> dict[str, str]:
        """The host of each node, by its ID."""
        return {f"n{number}": host for number, host in enumerate(self.hosts, 1)}

    def url(self, host: str, port: str) -> str:
        """The URL of a port that has a certificate."""
        return f"https://{host_port(host, PORTS[port])}"


def cluster_files(cluster: NewCluster, now: datetime) -> dict[str, bytes]:
    """All files of a new cluster, by their names. Keys, secret and tokens are made here.

    Args:
        cluster: what is wanted.
        now: from when on certificates are good.
    """
    authority = Authority(cluster.name, now)
    made = {name: TOKEN_PREFIX + secrets.token_hex(SECRET_BYTES) for name in RULES}
    hashes = "".join(f"{name} sha256:{hash_of(made[name].encode()).hex()} {rule}\n" for name, rule in RULES.items())
    secret = base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode() + "\n"
    ca = authority.pem
    files: dict[str, bytes] = {}
    for node_id, host in cluster.nodes.items():
        pair = authority.node(node_id, dict.fromkeys((host, node_id, "localhost", "127.0.0.1")))
        files[f"{node_id}.tar.gz"] = archive(_node_files(cluster, node_id, pair, ca, hashes, secret), now)
    files["agent.tar.gz"] = archive(_agent_files(cluster, made["agent"], ca), now)
    kept = {
        "operator.token": made["operator"] + "\n",
        "prometheus.token": made["prometheus"] + "\n",
        "ca.pem": ca.cert,
        "ca-key.pem": ca.key,
        "README": _operators_readme(cluster),
    }
    return files | {name: text.encode() for name, text in kept.items()}


def archive(files: Mapping[str, str], now: datetime) -> bytes:
    """A `.tar.gz` of texts, which only their owner may read."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            data = text.encode()
            entry.size, entry.mode, entry.mtime = len(data), FILE_MODE, int(now.timestamp())
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def _node_files(cluster: NewCluster, node_id: str, pair: Pem, ca: Pem, hashes: str, secret: str) -> dict[str, str]:
    return {
        "pico.yaml": _node_config(cluster, node_id),
        "cluster-secret": secret,
        "node.pem": pair.cert,
        "node-key.pem": pair.key,
        "node-ca.pem": ca.cert,
        "tokens": hashes,
        "README.node": _node_readme(cluster, node_id),
    }


def _agent_files(cluster: NewCluster, token: str, ca: Pem) -> dict[str, str]:
    return {
        "pico-agent.yaml": _agent_config(cluster),
        "agent.token": token + "\n",
        "agent-ca.pem": ca.cert,
        "README.agent": _agent_readme(cluster),
    }


def _node_config(cluster: NewCluster, node_id: str) -> str:
    host = cluster.nodes[node_id]
    # All nodes on one machine, to try it, cannot have the same ports of all its addresses.
    bound = host if _is_loopback(host) else ""
    bind, advertise = (
        {port: json.dumps(host_port(of, number) if of else f":{number}") for port, number in PORTS.items()}
        for of in (bound, host)
    )
    where = cluster.directory
    url = f"  public_url: {json.dumps(cluster.public_url)}\n" if cluster.public_url else ""
    return f"""\
# Node {node_id} of the cluster {cluster.name}, made by picoctl cluster init. What is not here has its default.
proxy:
  bind_addr: {bind["proxy"]}
  advertise_addr: {advertise["proxy"]}
{url}\
upstream:
  bind_addr: {bind["upstream"]}
  advertise_addr: {advertise["upstream"]}
  tls: &tls {{cert: "{where}/node.pem", key: "{where}/node-key.pem"}}
  auth: &auth {{tokens_file: "{where}/tokens"}}
admin:
  bind_addr: {bind["admin"]}
  advertise_addr: {advertise["admin"]}
  tls: *tls
  auth: *auth
cluster:
  name: {json.dumps(cluster.name)}
  node_id: {node_id}
  join: {json.dumps([host_port(other, PORTS["gossip"]) for other in cluster.hosts])}
  secret_files: ["{where}/cluster-secret"]
  gossip:
    bind_addr: {bind["gossip"]}
    advertise_addr: {advertise["gossip"]}
  tls: {{cert: "{where}/node.pem", key: "{where}/node-key.pem", ca: "{where}/node-ca.pem"}}
"""


def _agent_config(cluster: NewCluster) -> str:
    where = cluster.directory
    return f"""\
# An agent of the cluster {cluster.name}, made by picoctl cluster init. What is not here has its default.
connect:
  url: {json.dumps([cluster.url(host, "upstream") for host in cluster.hosts])}
  token_file: "{where}/agent.token"
  tls: {{root_cas: "{where}/agent-ca.pem"}}
# What this machine serves. Give each service a line, and the endpoint a name that others are to use.
listeners:
  - {{endpoint: my-endpoint, addr: "localhost:3000"}}
"""


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _node_readme(cluster: NewCluster, node_id: str) -> str:
    where = cluster.directory
    return f"""\
This is node {node_id} of the cluster {cluster.name}, for the machine {cluster.nodes[node_id]}. On it, as root:

  install -d {where}
  tar -xzf {node_id}.tar.gz -C {where} --no-same-owner
  /opt/pico/venv/bin/picoctl service install node

Start all nodes within a minute: each waits for another one. It needs the ports 8000 (clients), 8001 (operators), 8002
(agents), and, from the other nodes, 8001 and 8003 (TCP and UDP). Port 8000 speaks plain HTTP: put a load balancer with
a certificate in front of it, or set proxy.tls. All files but node-ca.pem and this one are secret.
"""


def _agent_readme(cluster: NewCluster) -> str:
    where = cluster.directory
    return f"""\
This is for agents of the cluster {cluster.name}. On a machine with a service, as root:

  install -d {where}
  tar -xzf agent.tar.gz -C {where} --no-same-owner
  editor {where}/pico-agent.yaml     # listeners: which service, and the name of its endpoint
  /opt/pico/venv/bin/picoctl service install agent

agent.token lets whoever has it serve any endpoint. For somebody who may serve some of them only, make another one:
picoctl token create NAME --rule 'listen:NAME-*' --file {where}/tokens, on each node.
"""


def _operators_readme(cluster: NewCluster) -> str:
    first = cluster.hosts[0]
    nodes = "\n".join(f"  {node_id}.tar.gz    {host}" for node_id, host in cluster.nodes.items())
    return f"""\
The cluster {cluster.name}. Copy each archive to its machine; the README in it says what to do there.

{nodes}
  agent.tar.gz  machines with services

For operators, and for nobody else:

  operator.token    picoctl status --admin {cluster.url(first, "admin")} --ca ca.pem --token-file operator.token
  prometheus.token  lets Prometheus read /metrics of the admin ports, with ca.pem
  ca.pem            the authority of all certificates here; public
  ca-key.pem        its key: whoever has it is a node. Keep it off the machines. It signs further nodes, and these again
                    before their certificates end, {NODE_DAYS} days from now

Archives and tokens are secret. Remove them here once they are where they belong.
"""
