"""Which cluster a node is in, and how it talks to the others."""

from __future__ import annotations

import attrs

from pico_twisted.config import kinds
from pico_twisted.config.fields import section, setting
from pico_twisted.config.tls import CERTIFICATE_NAME
from pico_twisted.config.values import GOSSIP_PORT, Address, default_address


@attrs.frozen(kw_only=True)
class ClusterTlsConfig:
    """Mutual TLS between nodes; without it node links are plain text."""

    cert: str = setting(
        kinds.FILE,
        "",
        "Certificate chain of this node, a PEM file with the node's own certificate first. The node shows it on "
        "links in both directions. Set it together with `key` and `ca`.",
        live=True,
    )
    key: str = setting(kinds.FILE, "", "Private key of the certificate, a PEM file.", live=True)
    ca: str = setting(
        kinds.FILE,
        "",
        "Authority of the cluster, a PEM file. Any peer with a certificate signed by it counts as a node, so let it "
        "sign nothing else, or say with `allowed_names` which certificates are of nodes.",
        live=True,
    )
    allowed_names: tuple[str, ...] = setting(
        kinds.Many(item=CERTIFICATE_NAME),
        "",
        "Names of nodes: DNS names and URIs as they stand in certificates. `*` is for any characters but dots in a DNS "
        "name, and but slashes in a URI. A peer whose certificate has none of them is refused. Empty: any name.",
        live=True,
    )
    crl: str = setting(
        kinds.FILE,
        "",
        "Certificates that the authority has revoked, a PEM file with its lists (CRL). Peers that show one are "
        "refused, and links that are open end. A list that is out of date is told, and still counts.",
        live=True,
    )

    @property
    def enabled(self) -> bool:
        """Whether node links use TLS."""
        return bool(self.cert and self.key and self.ca)


@attrs.frozen(kw_only=True)
class GossipConfig:
    """The port of the nodes, and how they talk there."""

    bind_addr: Address | None = setting(
        kinds.BIND_ADDRESS_OR_DEFAULT,
        "",
        "Address of the gossip port, for packets (UDP) and node links (TCP). Empty: `:8003` if `cluster.join`, "
        "secrets or `cluster.gossip.advertise_addr` are set, otherwise `127.0.0.1:8003`. Port 0 takes a free port.",
    )
    advertise_addr: Address | None = setting(
        kinds.ADVERTISE_ADDRESS,
        "",
        "Address at which other nodes reach the gossip port, over UDP and TCP. Empty: the bound IP, or the host's "
        "own address towards `cluster.join` when bound to all interfaces.",
    )
    interval: float = setting(
        kinds.duration(least_s=0.1, most_s=60.0),
        "500ms",
        "How often this node talks to another node. It should be about the same on all nodes. A node that is silent "
        "for several intervals counts as unreachable.",
    )
    max_packet_size: int = setting(
        kinds.size(least=576, most=65000),
        "1400",
        "Size of the largest packet that is sent. Packets that are too large for the network to carry in one piece "
        "are lost more easily.",
    )


@attrs.frozen(kw_only=True)
class ClusterConfig:
    """Which cluster the node is in, and who it is there."""

    name: str = setting(
        kinds.CLUSTER_NAME, "pico", "Name of the cluster. Nodes of a cluster with another name are ignored."
    )
    node_id: str = setting(
        kinds.OPTIONAL_ID,
        "",
        "ID of this node, unique in the cluster. Empty: `cluster.node_id_prefix` and random characters, different at "
        "each start.",
    )
    node_id_prefix: str = setting(
        kinds.ID_PREFIX, "", "What a generated node ID begins with. Not used with `cluster.node_id`."
    )
    join: tuple[Address, ...] = setting(
        kinds.Many(item=kinds.JOIN_ADDRESS),
        "",
        "Nodes to join: names or IPs, with the gossip port if it is not 8003. One that is up is enough. A name may "
        "have several addresses. The list may include this node. Empty: a cluster of one, until others join.",
    )
    join_timeout: float = setting(
        kinds.duration(), "1m", "How long the node tries to join before `cluster.abort_if_join_fails` decides."
    )
    abort_if_join_fails: bool = setting(
        kinds.BOOLEAN,
        "true",
        "Whether a node that could not join in time exits with status 1. Otherwise it serves alone and keeps trying.",
    )
    secrets: tuple[str, ...] = setting(
        kinds.Many(item=kinds.CLUSTER_SECRET),
        "",
        "Secrets that only the nodes of the cluster know; with one, packets are encrypted and links are "
        "authenticated. The first is used and all are accepted, so a secret can be replaced while the cluster runs. "
        "Prefer `cluster.secret_files`: every user of the machine can see a flag.",
        live=True,
    )
    secret_files: tuple[str, ...] = setting(
        kinds.Many(item=kinds.FILE_NAME),
        "",
        "Files that hold one secret each. These come after the ones in `cluster.secrets`.",
        live=True,
    )
    revocations_file: str = setting(
        kinds.FILE,
        "",
        "File that the node keeps what is revoked in, for a start at which it finds no other node. The node writes it. "
        "Empty: `revocations` in the directory that systemd makes for the node (`StateDirectory=`); without one it is "
        "kept nowhere.",
    )
    workers: int = setting(
        kinds.count_or_auto(most=64),
        "1",
        "How many processes share the ports of this host. Each is a node of the cluster with its own ID, "
        "`<node_id>-w0` and so on, and each uses the gossip port after the one before. `auto`: one for each core "
        "that the process may use. Everything under `limits` applies to each of them.",
    )
    tls: ClusterTlsConfig = section(ClusterTlsConfig, "Mutual TLS on node links. Set it on all nodes or on none.")
    gossip: GossipConfig = section(GossipConfig, "The gossip port: nodes only, never the Internet.")

    @property
    def gossip_bind_addr(self) -> Address:
        """Where the gossip port listens: this machine alone, unless something says that there are other nodes."""
        if self.gossip.bind_addr is not None:
            return self.gossip.bind_addr
        others = self.join or self.secrets or self.secret_files or self.gossip.advertise_addr is not None
        return default_address(GOSSIP_PORT, everywhere=bool(others))
