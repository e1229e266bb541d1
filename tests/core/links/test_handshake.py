"""The handshake of two nodes: whom the server admits, whom the client believes, and that nothing can be said twice."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.fields import Fields
from pico_twisted.core.http1.head import RequestHead, ResponseHead
from pico_twisted.core.links.handshake import (
    LINK_PATH,
    ClientHandshake,
    HandshakeFault,
    LinkIdentity,
    NotThePeer,
    ServerHandshake,
    link_keys,
)
from pico_twisted.core.links.proof import NONCE_BYTES, PROOF_BYTES
from pico_twisted.core.protocol_limits import MAX_LINK_GENERATION

SECRET, OTHER = b"the secret of this cluster", b"a secret of another cluster"
NAMES = "AZaz09._-"
Headers = dict[str, str]

names = st.text(NAMES, min_size=1, max_size=64)
generations = st.integers(0, MAX_LINK_GENERATION)
nonces = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)
secrets = st.lists(st.sampled_from([SECRET, OTHER, b"a third one"]), max_size=3, unique=True)


def identity(node_id: str, *known: bytes, cluster: str = "pico", generation: int = 7) -> LinkIdentity:
    """A node that knows some secrets."""
    return LinkIdentity(cluster=cluster, node_id=node_id, generation=generation, keys=link_keys(known, cluster))


def by_name(fields: Fields) -> dict[bytes, bytes]:
    """The first value of each field."""
    return {lower: value for lower, _, value in reversed(fields)}


def request(headers: Headers, *more: tuple[str, str]) -> RequestHead:
    """The head of a client's request."""
    fields = [(name.encode().lower(), name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    fields += [(name.encode().lower(), name.encode(), value.encode("latin-1")) for name, value in more]
    return RequestHead(b"GET", LINK_PATH, fields=fields, by_name=by_name(fields))


def answer(headers: Headers, *more: tuple[str, str]) -> ResponseHead:
    """The head of a server's 101."""
    named = {"Sec-WebSocket-Protocol": "pico.v2", **headers}
    fields = [(name.encode().lower(), name.encode(), value.encode("latin-1")) for name, value in named.items()]
    fields += [(name.encode().lower(), name.encode(), value.encode("latin-1")) for name, value in more]
    return ResponseHead(101, fields=fields, by_name=by_name(fields))


class Meeting:
    """A client and a server that meet, what they said, and what a third one may make of it."""

    def __init__(
        self,
        client: LinkIdentity,
        server: LinkIdentity,
        *,
        wanted: str | None = None,
        nonces: tuple[bytes, bytes] = (b"c" * NONCE_BYTES, b"s" * NONCE_BYTES),
    ) -> None:
        self.client = ClientHandshake(client, wanted or server.node_id, nonces[0])
        self.asked = self.client.headers()
        self.server = ServerHandshake(server, request(self.asked), nonces[1])
        self.answered = self.server.headers()

    def proof(self) -> bytes | None:
        """The client's, if it believes the server."""
        return self.client.check(answer(self.answered))


@given(secrets, secrets, names, names, generations, nonces, nonces)
def test_two_honest_nodes(
    ours: list[bytes],
    theirs: list[bytes],
    client_id: str,
    server_id: str,
    generation: int,
    client_nonce: bytes,
    server_nonce: bytes,
) -> None:
    """They come together if the server knows the client's first secret, or neither has any; else the client is refused
    before it has said anything that is worth something."""
    client = identity(client_id, *ours, generation=generation)
    server = identity(server_id, *theirs)
    good = (ours[0] in theirs) if ours else not theirs
    if client_id == server_id or not good:
        with pytest.raises(HandshakeFault) as caught:
            Meeting(client, server, nonces=(client_nonce, server_nonce))
        assert caught.value.status == (403 if client_id == server_id else 401)
        return
    meeting = Meeting(client, server, nonces=(client_nonce, server_nonce))
    assert (meeting.server.node_id, meeting.server.generation) == (client_id, generation)
    assert meeting.server.proves is bool(ours)
    proof = meeting.proof()
    if ours:
        assert proof is not None and meeting.server.accepts(proof)
    else:
        assert proof is None and "x-pico-nonce" not in {**meeting.asked, **meeting.answered}


class TestServer:
    """Whom the server admits."""

    @pytest.mark.parametrize(
        ("change", "status", "code"),
        [
            ({"x-pico-cluster": "other"}, 403, "wrong-cluster"),
            ({"x-pico-cluster": "Pico"}, 403, "wrong-cluster"),
            ({"x-pico-to": "n3"}, 403, "wrong-node"),
            ({"x-pico-to": "N1"}, 403, "wrong-node"),
            ({"x-pico-node-id": "n1"}, 403, "wrong-node"),
            ({"x-pico-key": "00000000"}, 401, "unauthenticated"),
            ({"x-pico-key": None, "x-pico-nonce": None}, 401, "unauthenticated"),
            ({"x-pico-key": None}, 401, "unauthenticated"),
            ({"x-pico-nonce": None}, 401, "unauthenticated"),
            ({"x-pico-nonce": ""}, 401, "unauthenticated"),
            ({"x-pico-nonce": "00"}, 400, "bad-request"),
            ({"x-pico-nonce": "0" * 33}, 400, "bad-request"),
            ({"x-pico-nonce": "G" * 32}, 400, "bad-request"),
            ({"x-pico-nonce": "A" * 32}, 400, "bad-request"),
            ({"x-pico-key": "0"}, 400, "bad-request"),
            ({"x-pico-key": "\xb2\xb2\xb2\xb2\xb2\xb2\xb2\xb2"}, 400, "bad-request"),
            ({"x-pico-cluster": None}, 400, "bad-request"),
            ({"x-pico-node-id": None}, 400, "bad-request"),
            ({"x-pico-to": None}, 400, "bad-request"),
            ({"x-pico-node-id": ""}, 400, "bad-request"),
            ({"x-pico-node-id": "a" * 65}, 400, "bad-request"),
            ({"x-pico-node-id": "a b"}, 400, "bad-request"),
            ({"x-pico-node-id": "n2\n"}, 400, "bad-request"),
            ({"x-pico-node-id": "\xe9"}, 400, "bad-request"),
            ({"x-pico-generation": None}, 400, "bad-request"),
            ({"x-pico-generation": ""}, 400, "bad-request"),
            ({"x-pico-generation": "-1"}, 400, "bad-request"),
            ({"x-pico-generation": "+1"}, 400, "bad-request"),
            ({"x-pico-generation": "01"}, 400, "bad-request"),
            ({"x-pico-generation": "1_0"}, 400, "bad-request"),
            ({"x-pico-generation": "\xb2"}, 400, "bad-request"),
            ({"x-pico-generation": str(2**63)}, 400, "bad-request"),
            ({"x-pico-generation": "9" * 5000}, 400, "bad-request"),
        ],
        ids=str,
    )
    def test_refused(self, change: dict[str, str | None], status: int, code: str) -> None:
        """Another cluster, another node, a secret that is wrong or absent, and fields that are none of ours."""
        said = ClientHandshake(identity("n2", SECRET), "n1", bytes(NONCE_BYTES)).headers()
        changed = {name: value for name, value in {**said, **change}.items() if value is not None}
        with pytest.raises(HandshakeFault) as caught:
            ServerHandshake(identity("n1", SECRET), request(changed), bytes(NONCE_BYTES))
        assert (caught.value.status, caught.value.code) == (status, code)

    @pytest.mark.parametrize("name", list(ClientHandshake(identity("n2", SECRET), "n1", bytes(16)).headers()))
    def test_repeated_fields(self, name: str) -> None:
        """Two readers of a repeated field could see two clients: 400, even if both values are the same."""
        said = ClientHandshake(identity("n2", SECRET), "n1", bytes(NONCE_BYTES)).headers()
        for value in (said[name], "other"):
            with pytest.raises(HandshakeFault) as caught:
                ServerHandshake(identity("n1", SECRET), request(said, (name, value)), bytes(NONCE_BYTES))
            assert caught.value.status == 400

    @pytest.mark.parametrize("said", [{"x-pico-nonce": "0" * 32}, {"x-pico-key": "00000000"}], ids=str)
    def test_a_secret_where_there_is_none(self, said: Headers) -> None:
        """A client that has a secret is not let in by a node that could not prove it: its operator is to hear of it."""
        asked = ClientHandshake(identity("n2"), "n1", bytes(NONCE_BYTES)).headers()
        with pytest.raises(HandshakeFault) as caught:
            ServerHandshake(identity("n1"), request({**asked, **said}), bytes(NONCE_BYTES))
        assert caught.value.status == 401

    @given(st.dictionaries(st.sampled_from(sorted(Meeting(identity("n2"), identity("n1")).asked)), st.text()))
    def test_any_values(self, change: Headers) -> None:
        """Whatever stands in the fields, the client is refused or is the one that it names."""
        values = {name: value.encode("utf-8").decode("latin-1") for name, value in change.items()}
        said = {**ClientHandshake(identity("n2"), "n1", bytes(NONCE_BYTES)).headers(), **values}
        try:
            server = ServerHandshake(identity("n1"), request(said), bytes(NONCE_BYTES))
        except HandshakeFault as fault:
            assert fault.status in (400, 403) and fault.message and fault.code
        else:
            assert (server.node_id, str(server.generation)) == (said["x-pico-node-id"], said["x-pico-generation"])
            assert said["x-pico-to"] == "n1" and said["x-pico-cluster"] == "pico"

    @given(st.binary(max_size=80))
    def test_any_proof(self, proof: bytes) -> None:
        """Whatever a client sends in the place of its proof, it is not believed; without a secret there is none."""
        assert not Meeting(identity("n2", SECRET), identity("n1", SECRET)).server.accepts(proof)
        assert not Meeting(identity("n2"), identity("n1")).server.accepts(proof)

    def test_a_proof_is_good_once(self) -> None:
        """What was recorded of a handshake proves nothing in the next one, though the client's part is the same."""
        first = Meeting(identity("n2", SECRET), identity("n1", SECRET))
        proof = first.proof()
        assert proof is not None and first.server.accepts(proof)
        again = ServerHandshake(identity("n1", SECRET), request(first.asked), b"t" * NONCE_BYTES)
        assert not again.accepts(proof)

    def test_the_servers_own_proof(self) -> None:
        """It cannot be sent back to it."""
        meeting = Meeting(identity("n2", SECRET), identity("n1", SECRET))
        assert not meeting.server.accepts(bytes.fromhex(meeting.answered["x-pico-proof"]))

    @pytest.mark.parametrize(
        "change", [{"node_id": "n3"}, {"generation": 8}, {"cluster": "pico2"}, {"keys": link_keys([OTHER], "pico")}]
    )
    def test_a_proof_of_another_client(self, change: dict[str, Any]) -> None:
        """Nobody's proof is that of another name, generation, cluster or secret, with the same nonces."""
        meeting = Meeting(identity("n2", SECRET), identity("n1", SECRET))
        client = attrs.evolve(identity("n2", SECRET), **change)
        if "cluster" in change:
            client = identity("n2", SECRET, **change)
        server = identity("n1", OTHER if "keys" in change else SECRET, cluster=client.cluster)
        proof = Meeting(client, server).proof()
        assert proof is not None and not meeting.server.accepts(proof)


class TestClient:
    """Whom the client believes: else it says nothing more."""

    @pytest.mark.parametrize("known", [(), (SECRET,)], ids=["open", "secret"])
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"Sec-WebSocket-Protocol": None}, "handshake"),
            ({"Sec-WebSocket-Protocol": "pico.v1"}, "handshake"),
            ({"x-pico-node-id": None}, "wrong-node"),
            ({"x-pico-node-id": "n3"}, "wrong-node"),
            ({"x-pico-node-id": "n1, n1"}, "wrong-node"),
        ],
        ids=str,
    )
    def test_not_the_node(self, known: tuple[bytes, ...], change: dict[str, str | None], reason: str) -> None:
        """Another node at this address, and a server that speaks something else."""
        meeting = Meeting(identity("n2", *known), identity("n1", *known))
        changed = {"Sec-WebSocket-Protocol": "pico.v2", **meeting.answered, **change}
        head = answer({name: value for name, value in changed.items() if value is not None})
        kept = [field for field in head.fields if change.get(field[1].decode(), "") is not None]
        head = head.replace(fields=kept, by_name=by_name(kept))
        with pytest.raises(NotThePeer) as caught:
            meeting.client.check(head)
        assert caught.value.reason == reason

    def test_a_repeated_answer(self) -> None:
        """A field that comes twice counts as wrong."""
        meeting = Meeting(identity("n2", SECRET), identity("n1", SECRET))
        for name, value in meeting.answered.items():
            with pytest.raises(NotThePeer):
                meeting.client.check(answer(meeting.answered, (name, value)))

    @given(st.sampled_from(["x-pico-nonce", "x-pico-proof"]), st.none() | st.text("0123456789abcdefAF z", max_size=70))
    def test_a_server_that_proves_nothing(self, name: str, value: str | None) -> None:
        """No nonce, no proof, half a one, a wrong one: the client's own proof is not given."""
        meeting = Meeting(identity("n2", SECRET), identity("n1", SECRET))
        changed = {key: said for key, said in {**meeting.answered, name: value}.items() if said is not None}
        with pytest.raises(NotThePeer) as caught:
            meeting.client.check(answer(changed))
        assert caught.value.reason == "proof"

    def test_a_recorded_answer(self) -> None:
        """What a server said to one handshake is worth nothing in the next one."""
        recorded = Meeting(identity("n2", SECRET), identity("n1", SECRET)).answered
        client = ClientHandshake(identity("n2", SECRET), "n1", b"d" * NONCE_BYTES)
        with pytest.raises(NotThePeer, match="could not prove"):
            client.check(answer(recorded))

    def test_the_clients_own_words(self) -> None:
        """A server without the secret cannot answer with what the client itself would say."""
        client = ClientHandshake(identity("n2", SECRET), "n1", b"c" * NONCE_BYTES)
        mirror = Meeting(
            identity("n1", SECRET), identity("n2", SECRET), nonces=(b"m" * NONCE_BYTES, b"c" * NONCE_BYTES)
        )
        proof = mirror.proof()
        assert proof is not None
        said = {"x-pico-node-id": "n1", "x-pico-nonce": (b"m" * NONCE_BYTES).hex(), "x-pico-proof": proof.hex()}
        with pytest.raises(NotThePeer):
            client.check(answer(said))

    def test_a_server_of_another_secret(self) -> None:
        """One that knows another secret under the same tag is not believed."""
        client = ClientHandshake(identity("n2", SECRET), "n1", b"c" * NONCE_BYTES)
        (key,) = link_keys([OTHER], "pico")
        forger = attrs.evolve(identity("n1"), keys=(attrs.evolve(key, tag=client.headers()["x-pico-key"]),))
        said = ServerHandshake(forger, request(client.headers()), b"s" * NONCE_BYTES).headers()
        assert len(bytes.fromhex(said["x-pico-proof"])) == PROOF_BYTES
        with pytest.raises(NotThePeer, match="could not prove"):
            client.check(answer(said))

    def test_the_secret_in_use(self) -> None:
        """A node uses the first of its secrets; a node that has it in any place accepts it."""
        assert ClientHandshake(identity("n2", OTHER, SECRET), "n1", bytes(16)).headers()["x-pico-key"] == (
            link_keys([OTHER], "pico")[0].tag
        )
        meeting = Meeting(identity("n2", OTHER, SECRET), identity("n1", SECRET, OTHER))
        proof = meeting.proof()
        assert proof is not None and meeting.server.accepts(proof)


@pytest.mark.parametrize(
    "change",
    [
        {"cluster": ""},
        {"cluster": "a b"},
        {"node_id": "a" * 65},
        {"node_id": "n\r\n"},
        {"node_id": "\xe9"},
        {"generation": -1},
        {"generation": 2**63},
    ],
    ids=str,
)
def test_what_no_node_is_called(change: dict[str, Any]) -> None:
    """An identity that could not be written into a head is our own fault, and is seen at once."""
    with pytest.raises(ValueError, match=r"name|generation"):
        attrs.evolve(identity("n1"), **change)


def test_nothing_secret_is_shown() -> None:
    """Neither a secret nor a key stands in what is logged of an identity, or in any head."""
    meeting = Meeting(identity("n2", SECRET), identity("n1", SECRET))
    (key,) = link_keys([SECRET], "pico")
    shown = repr(identity("n2", SECRET)) + repr(meeting.asked) + repr(meeting.answered)
    for hidden in (SECRET.decode(), repr(key.key), key.key.hex()):
        assert hidden not in shown
