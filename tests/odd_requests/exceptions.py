"""What nginx and HAProxy serve and a node refuses, each with its reason. `docs/protocol.md` tells them to users."""

from __future__ import annotations

_LIST = "who reads X-Forwarded-Host or Forwarded as a list sees several hosts, or a parameter more"
_EXPECTATION = "services read it in different ways, and wait for the body or take it for the next request"

HOSTS = {"a comma": _LIST, "a semicolon": _LIST, "an equals sign": _LIST}
EXPECTATIONS = {
    "nothing": _EXPECTATION,
    "continue with a comma": _EXPECTATION,
    "something else": _EXPECTATION,
    "continue twice": _EXPECTATION,
    "a parameter": _EXPECTATION,
}

EXCEPTIONS = {
    **{f"host: {name}": reason for name, reason in HOSTS.items()},
    **{
        f"expectation: {name}{where}": reason
        for name, reason in EXPECTATIONS.items()
        for where in ("", ", without a body")
    },
}
"""The reason, by the name of the request."""
