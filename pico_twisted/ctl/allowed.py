"""What a token or JWT may do by the files that a configuration names: its rules decide at the ports, too.

Nothing is asked: what is revoked is not known here, and a JWK set at a URL is not fetched.
"""

from __future__ import annotations

import time

import attrs
import click

from pico_twisted.config import AgentConfig, NodeConfig
from pico_twisted.config.checks import auth_sections, read_secret
from pico_twisted.config.credentials import owner_of, read_credentials
from pico_twisted.config.faults import whose
from pico_twisted.core.access.refusals import not_allowed
from pico_twisted.core.access.rules import Action
from pico_twisted.core.access.subject import Reason, Refused, Subject
from pico_twisted.core.text import ENDPOINT_ID_PATTERN
from pico_twisted.ctl.exits import SaidNo, emit
from pico_twisted.ctl.tables import known_table
from pico_twisted.net.admin.shapes.access import ACTIONS, KnownAs


def show_allowed(config: NodeConfig | AgentConfig, token_file: str, endpoint: str | None) -> None:
    """Print what the token of a file may do at each port; with an endpoint, by which rule it may use or serve that.

    Raises:
        SaidNo: nothing at all.
        click.BadParameter: there is no token in the file, or no such endpoint can be.
    """
    bearer = read_secret(token_file)
    if bearer is None:
        raise click.BadParameter(f"{token_file} holds no token{whose(token_file)}", param_hint="--token-file")
    if endpoint is not None and not ENDPOINT_ID_PATTERN.fullmatch(endpoint):
        raise click.BadParameter(f"{endpoint!r} is no endpoint ID", param_hint="--endpoint")
    known: dict[str, KnownAs] = {}
    for path, auth in auth_sections(config).items():
        port = path.partition(".")[0]
        if endpoint is not None and port == "admin":
            continue  # nothing is asked about endpoints there
        if not auth.enabled:
            known[port] = KnownAs(authenticates=False)
            continue
        found = owner_of(bearer.encode(), read_credentials(auth, path)[0], time.time())
        if isinstance(found, Refused) and found.reason is Reason.UNKNOWN and auth.jwt.jwks_url:
            known[port] = KnownAs(refused=f"not known by the files; {auth.jwt.jwks} is not asked: picoctl whoami")
        else:
            if isinstance(found, Subject) and endpoint is not None:
                found = _with_endpoint(found, ACTIONS[port][0], endpoint.lower())
            known[port] = KnownAs.of(found, port)
    emit(known_table(known))
    if not any(one.rules or not one.authenticates for one in known.values()):
        raise SaidNo("nothing is allowed")


def _with_endpoint(subject: Subject, action: Action, endpoint: str) -> Subject | Refused:
    """The subject with the one rule that decides."""
    rule = subject.rule_for(action, endpoint)
    return not_allowed(action, endpoint) if rule is None else attrs.evolve(subject, rules=(rule,))
