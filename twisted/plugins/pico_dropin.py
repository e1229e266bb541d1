"""What twistd finds: the two daemons, by name. Nothing of theirs is imported until one is asked for."""

from twisted.application.service import ServiceMaker

pico = ServiceMaker(
    "Pico node",
    "pico_twisted.app.pico",
    "A Pico node: proxies requests to services that agents registered.",
    "pico",
)

pico_agent = ServiceMaker(
    "Pico agent",
    "pico_twisted.app.pico_agent",
    "A Pico agent: registers local services with a Pico node.",
    "pico-agent",
)
