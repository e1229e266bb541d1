"""Passes: how a node that asks another one's admin port shows that it may, and for whom it asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from twisted.web.client import URI

from pico_twisted.core.access.subject import Reason, Refused
from pico_twisted.core.http1.error_pages import agent_message
from pico_twisted.core.links.node_pass import PASS_NONCE_BYTES, NodePass, PassError, read_pass
from pico_twisted.net.admin.operators import Operator
from pico_twisted.net.admin.origins import MISDIRECTED
from pico_twisted.net.tls.fetch import Fetched

REFUSED: Final = (401, MISDIRECTED)
"""Statuses of a node that takes us for nobody: to the client who asked us they would say something else."""


class NodePasses:
    """Makes the passes that this node shows, and reads those of others.

    Args:
        node_id: of this node.
        cluster: the cluster's name.
        secrets: of the cluster; the first one makes passes, all of them count.
        wall: tells the time of day, in seconds since 1970.
        nonce: gives random bytes, as many as it is told.
    """

    def __init__(
        self,
        node_id: str,
        cluster: str,
        secrets: Sequence[str],
        *,
        wall: Callable[[], float],
        nonce: Callable[[int], bytes],
    ) -> None:
        self._node_id = node_id
        self._cluster = cluster
        self._wall = wall
        self._nonce = nonce
        self.set_secrets(secrets)

    def set_secrets(self, secrets: Sequence[str]) -> None:
        """Use other secrets from now on."""
        self._secrets = [secret.encode() for secret in secrets]

    def fields(self, operator: Operator, asked: str, url: str) -> Mapping[str, str]:
        """The fields of a question to another node: a pass, if there can be one.

        Args:
            operator: for whom we ask. The pass says no more of them than what they may do here.
            asked: ID of the node that is to answer.
            url: what is asked for, with GET.
        """
        if operator.action is None or not self._secrets:
            return {}
        made = NodePass(
            asking=self._node_id,
            asked=asked,
            action=operator.action,
            target=b"GET " + URI.fromBytes(url.encode("ascii")).originForm,
            issued_at=int(self._wall()),
            nonce=self._nonce(PASS_NONCE_BYTES),
        )
        return {"authorization": made.written(self._secrets[0], self._cluster)}

    def read(self, text: str, target: bytes, ids: frozenset[str], address: str) -> Operator | Refused:
        """Who asks through another node, and what they may do.

        Args:
            text: what is behind the scheme in the Authorization field.
            target: what is asked for: method, path and query.
            ids: of the nodes for which this port answers.
            address: of the node that asks.
        """
        try:
            found = read_pass(text, self._secrets, self._cluster, target, self._wall())
        except PassError as error:
            return Refused(reason=Reason.SIGNATURE, message=str(error))
        if found.asked not in ids:
            return Refused(reason=Reason.AUDIENCE, message="the pass is for another node")
        return Operator(name=f"an operator through node {found.asking}", action=found.action, address=address)

    def why_refused(self, operator: Operator, answer: Fetched) -> str:
        """Why another node takes us for nobody, in words that continue its name; empty when it does not."""
        if answer.status not in REFUSED:
            return ""
        if answer.status == MISDIRECTED or (self._secrets and operator.action is not None):
            return "refuses this node: " + agent_message(answer.body, f"it answers with {answer.status}")
        if not self._secrets:
            return "authenticates, and nodes without cluster.secrets cannot show who asks"
        return "authenticates and this node does not, so nobody knows who asks: set admin.auth here too"
