"""Which endpoint a request is for where an operator has told names: whole hosts, names below others, paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.head import RequestHead
from pico_twisted.core.routing.endpoint import EndpointError, EndpointNames

RULES = [
    ("shop.example.com", "", "shop"),
    ("shop.example.com", "/api", "shop-api"),
    ("shop.example.com", "/api/v2", "shop-v2"),
    ("docs.example.com", "/en", "docs-en"),
    ("*.customer.example", "", "customer"),
    ("*.customer.example", "/api", "customer-api"),
    ("*.eu.customer.example", "", "customer-eu"),
    ("*.acme.tunnel.example.com", "", "acme-*"),
    ("*.example.net", "", "*"),
    ("10.0.0.1", "", "by-ip"),
    ("2001:db8::1", "", "by-ipv6"),
]
PUBLIC = "https://*.tunnel.example.com"
NAMES = EndpointNames(RULES, PUBLIC)


def ask(names: EndpointNames, host: str | None, target: str = "/", endpoint: str | None = None) -> str:
    """The endpoint of a request, or the status and code of what refuses it."""
    given = {} if endpoint is None else {b"x-pico-endpoint": endpoint.encode()}
    head = RequestHead(b"GET", target.encode("latin-1"), host=host.encode() if host else None, by_name=given)
    try:
        return names.endpoint_of(head)
    except EndpointError as error:
        return f"{error.status} {error.code}"


@pytest.mark.parametrize(
    ("place", "endpoint"),
    [
        ("shop.example.com/", "shop"),
        ("SHOP.Example.com.:8443/", "shop"),
        ("shop.example.com/api", "shop-api"),
        ("shop.example.com/api?x=/../", "shop-api"),
        ("shop.example.com/api/", "shop-api"),
        ("shop.example.com/api/v2/x", "shop-v2"),
        ("shop.example.com/api/v20", "shop-api"),
        ("shop.example.com/apis", "shop"),
        ("shop.example.com/API", "shop"),
        ("shop.example.com/%61p%69/x", "shop-api"),
        ("docs.example.com/en/x", "docs-en"),
        ("docs.example.com/fr", "404 unknown-host"),
        ("a.customer.example/", "customer"),
        ("b.a.customer.example/", "customer"),
        ("a.customer.example/api/x", "customer-api"),
        ("a.eu.customer.example/", "customer-eu"),
        ("a.eu.customer.example/api", "customer-eu"),
        ("customer.example/", "404 unknown-host"),
        ("www.acme.tunnel.example.com/", "acme-www"),
        ("a.b.acme.tunnel.example.com/", "acme-a.b"),
        ("acme.tunnel.example.com/", "acme"),
        ("My-Endpoint.tunnel.example.com:443/", "my-endpoint"),
        ("www.other.tunnel.example.com/", "404 unknown-host"),
        ("tunnel.example.com/", "404 unknown-host"),
        ("my.endpoint.example.net/", "my.endpoint"),
        ("web.example.org/", "404 unknown-host"),
        ("localhost/", "404 unknown-host"),
        ("-a.tunnel.example.com/", "400 invalid-endpoint"),
        ("10.0.0.1:80/", "by-ip"),
        ("10.0.0.2/", "400 missing-endpoint"),
        ("[2001:DB8:0::1]:8000/", "by-ipv6"),
        ("[2001:db8::1%eth0]/", "by-ipv6"),
        ("[::1]/", "400 missing-endpoint"),
        ("sh%6Fp.example.com/", "400 missing-endpoint"),
    ],
)
def test_names(place: str, endpoint: str) -> None:
    """The whole name counts before the names below others, the longer path and the longer name before the shorter."""
    host, slash, path = place.partition("/")
    assert ask(NAMES, host, slash + path) == endpoint
    assert ask(NAMES, host, slash + path) == endpoint  # now from memory


def test_the_header_wins() -> None:
    """It names any endpoint at any host, also where nothing else does."""
    for host in ("shop.example.com", "web.example.org", "localhost", "10.0.0.2", None):
        assert ask(NAMES, host, "/api/../x", "Other") == "other"
        assert ask(NAMES, host, "/", "-") == "400 invalid-endpoint"
    assert ask(NAMES, None) == "400 missing-endpoint"


def test_without_a_public_url_other_hosts_are_read_by_their_first_label() -> None:
    """Rules come first, and nothing else changes for those who add one."""
    names = EndpointNames(RULES)
    assert ask(names, "shop.example.com", "/api") == "shop-api"
    assert ask(names, "docs.example.com", "/en") == "docs-en"
    assert ask(names, "docs.example.com", "/fr") == "docs"
    assert ask(names, "web.example.org") == "web"
    assert ask(names, "localhost") == "400 missing-endpoint"


def test_a_public_url_without_a_star_names_no_endpoint() -> None:
    """Clients send the header, or use a name that has a rule."""
    names = EndpointNames(RULES, "https://pico.example.com")
    assert ask(names, "pico.example.com") == ask(names, "a.pico.example.com") == "404 unknown-host"
    assert ask(names, "shop.example.com") == "shop"


@pytest.mark.parametrize(
    "path",
    [
        "/api/../x",
        "/x/../api",
        "/api/./x",
        "/%2e%2e/api",
        "/x/%252e%252e/api",
        "/api/..;a=1/x",
        "/api;x/y",
        "/api;x",
        "//api",
        "/api%2fx",
        "/api%5cx",
        "/\\api/x",
        "/%61pi%3fx",
        "/%2561pi",
        "/api%00",
        "/x%0d%0aGET",
        "/%25252525252561pi",
    ],
)
def test_paths_that_services_read_in_two_ways(path: str) -> None:
    """Where the path names the endpoint, one that services may read differently is refused; elsewhere it goes on."""
    assert ask(NAMES, "shop.example.com", path) == "400 ambiguous-path"
    assert ask(NAMES, "a.eu.customer.example", path) == "customer-eu"
    assert ask(NAMES, "x.tunnel.example.com", path) == "x"


@pytest.mark.parametrize("path", ["/x%2Fy", "/x//y", "/x;a=1", "/api/x//y;a=b%2Fc", "/.well-known/x", "/a%20b", "*"])
def test_paths_that_are_odd_where_it_does_not_matter(path: str) -> None:
    """What is odd behind the part that names the endpoint, or leads to the same one in each reading, goes on."""
    assert ask(NAMES, "shop.example.com", path) == ("shop-api" if path.startswith("/api/") else "shop")


LABELS = st.text("abz019-_", min_size=1, max_size=8)
HOSTS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)


@given(HOSTS, st.sampled_from(["", ".customer.example", ".tunnel.example.com", ".acme.tunnel.example.com"]))
def test_spellings_of_a_host(name: str, behind: str) -> None:
    """Case, a dot at the end and a port change nothing."""
    host = name + behind
    spellings = {host, host.upper(), f"{host}.", f"{host}:8000", f"{host.title()}.:1"}
    assert len({ask(NAMES, spelling) for spelling in spellings}) == 1


@given(HOSTS, HOSTS)
def test_two_customers_have_two_names(one: str, other: str) -> None:
    """No name below one customer's is an endpoint of another, and two names are never one endpoint."""
    names = EndpointNames([("*.acme.example.com", "", "acme-*"), ("*.other.example.com", "", "other-*")], PUBLIC)
    acme, others = ask(names, f"{one}.acme.example.com"), ask(names, f"{other}.other.example.com")
    assert acme == f"acme-{one}" and others == f"other-{other}"
    assert one == other or ask(names, f"{other}.acme.example.com") != acme
