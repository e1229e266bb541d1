"""Writes etc/grafana/*.json, the dashboards for Grafana, from the tables of panels below.

    python -m tools.grafana_dashboards            writes them
    python -m tools.grafana_dashboards --check    says which are stale; exit status 1

Each panel has a question that it answers (its description), a unit and PromQL. `tests/monitoring` sends each expression
to a real Prometheus, and reads the files with the classes that Grafana publishes for dashboards.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "etc" / "grafana"
_SCHEMA: Final = 39
"""Version of the schema of dashboards: Grafana 11 writes it, newer ones read it."""
_COLUMNS: Final = 24
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]  # as JSON is


class Panel(NamedTuple):
    """One panel.

    Attributes:
        title: of it.
        description: the question that it answers.
        unit: of Grafana's.
        queries: PromQL, and how each series is called.
        kind: `timeseries`, or `stat` for one number.
    """

    title: str
    description: str
    unit: str
    queries: Sequence[tuple[str, str]]
    kind: str = "timeseries"


Rows = Sequence[tuple[str, Sequence[Panel]]]
"""Titles of rows, each with its panels."""


def _quantiles(metric: str, where: str) -> list[tuple[str, str]]:
    inner = f"sum by (le) (rate({metric}_bucket{{{where}}}[$__rate_interval]))"
    return [(f"histogram_quantile({q}, {inner})", f"p{q * 100:g}") for q in (0.5, 0.9, 0.99)]


def _rate(metric: str, where: str, by: str, legend: str = "") -> tuple[str, str]:
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))", legend or f"{{{{{by}}}}}"


_C: Final = 'job="pico",cluster="$cluster"'
_N: Final = f'{_C},node_id="$node"'
_A: Final = 'job="pico-agents",instance=~"$agent"'
_OF_CLASS: Final = "sum by (class) (label_replace({}, 'class', '${{1}}xx', 'status', '(.).*'))"


def _by_class(where: str) -> tuple[str, str]:
    return _OF_CLASS.format(f"rate(pico_requests_total{{{where}}}[$__rate_interval])"), "{{class}}"


CLUSTER: Final[Rows] = (
    (
        "At a glance",
        (
            Panel("Nodes", "How many nodes answer Prometheus?", "short", [(f"sum(up{{{_C}}})", "")], "stat"),
            Panel("Ready", "How many take requests?", "short", [(f"sum(pico_ready{{{_C}}})", "")], "stat"),
            Panel("Endpoints", "How many endpoints have an agent?", "short", [(f"max(pico_cluster_endpoints{{{_C}}})", "")], "stat"),
            Panel("Sessions", "How many sessions do agents have?", "short", [(f"sum(pico_upstream_sessions{{{_C}}})", "")], "stat"),
            Panel("Requests", "How many requests are there in a second?", "reqps", [(f"sum(rate(pico_requests_total{{{_C}}}[$__rate_interval]))", "")], "stat"),
            Panel(
                "5xx",
                "Which share of the requests ends with a 5xx, of Pico or of a service?",
                "percentunit",
                [
                    (
                        f'(sum(rate(pico_requests_total{{{_C},status=~"5.."}}[$__rate_interval])) or vector(0))'
                        f" / sum(rate(pico_requests_total{{{_C}}}[$__rate_interval]))",
                        "",
                    )
                ],
                "stat",
            ),
        ),
    ),
    (
        "Requests",
        (
            Panel("Requests by status", "How do requests end?", "reqps", [_by_class(_C)]),
            Panel("Time to the first byte", "How long do clients wait for the beginning of a response?", "s", _quantiles("pico_first_byte_seconds", _C)),
            Panel("Errors by code", "Which errors does Pico make, and which hop are they about? hop service: what is behind the agents.", "reqps", [_rate("pico_errors_total", _C, "code, hop", "{{code}} ({{hop}})")]),
            Panel("Retries by reason", "Why are requests tried again?", "reqps", [_rate("pico_retries_total", _C, "reason")]),
            Panel("Requests by node", "Where do clients come in?", "reqps", [_rate("pico_requests_total", _C, "node_id")]),
            Panel("In progress", "How many requests are in progress at each node?", "short", [(f"pico_requests_in_flight{{{_C}}}", "{{node_id}}")]),
            Panel("Bytes", "How much goes through?", "Bps", [(f"sum(rate(pico_request_bytes_total{{{_C}}}[$__rate_interval]))", "from clients"), (f"sum(rate(pico_response_bytes_total{{{_C}}}[$__rate_interval]))", "to clients")]),
            Panel("Refused for a limit", "Which limits are reached?", "reqps", [_rate("pico_limited_total", _C, "reason")]),
        ),
    ),
    (
        "Endpoints, with metrics.per_endpoint",
        (
            Panel("Busiest endpoints", "Which endpoints have the most requests?", "reqps", [(f"topk(10, sum by (endpoint) (rate(pico_endpoint_requests_total{{{_C}}}[$__rate_interval])))", "{{endpoint}}")]),
            Panel("Failing endpoints", "Which endpoints have 5xx?", "reqps", [(f'topk(10, sum by (endpoint) (rate(pico_endpoint_requests_total{{{_C},status="5xx"}}[$__rate_interval])))', "{{endpoint}}")]),
            Panel(
                "Slowest endpoints",
                "How long does the first byte take, on average?",
                "s",
                [
                    (
                        f"topk(10, sum by (endpoint) (rate(pico_endpoint_first_byte_seconds_sum{{{_C}}}[$__rate_interval]))"
                        f" / (sum by (endpoint) (rate(pico_endpoint_first_byte_seconds_count{{{_C}}}[$__rate_interval])) > 0))",
                        "{{endpoint}}",
                    )
                ],
            ),
            Panel("In progress by endpoint", "Which endpoints have the most requests in progress?", "short", [(f"topk(10, sum by (endpoint) (pico_endpoint_requests_in_flight{{{_C}}}))", "{{endpoint}}")]),
        ),
    ),
    (
        "Cluster",
        (
            Panel("Nodes by status", "What do nodes believe of the others, at most?", "short", [(f"max by (status) (pico_nodes{{{_C}}})", "{{status}}")]),
            Panel("Links", "Can nodes reach each other? failing: not.", "short", [(f"sum by (state) (pico_links{{{_C}}})", "{{state}}")]),
            Panel("Round trips of links", "How far are nodes from each other?", "s", _quantiles("pico_link_round_trip_seconds", _C)),
            Panel("Sessions by node", "Where do agents register?", "short", [(f"pico_upstream_sessions{{{_C}}}", "{{node_id}}")]),
            Panel("Sessions opened", "Do agents come back again and again?", "cps", [_rate("pico_upstream_registrations_total", _C, "node_id")]),
            Panel("Services that are out", "At how many agents is a service out, and how many endpoints does nobody serve for that?", "short", [(f"sum(pico_upstream_sessions_out{{{_C}}})", "sessions"), (f"max(pico_endpoints_out{{{_C}}})", "endpoints")]),
            Panel("Versions of agents", "Which versions do agents have?", "short", [(f"sum by (version) (pico_upstream_sessions_by_version{{{_C}}})", "{{version}}")]),
            Panel("Versions of nodes", "Do all nodes run the same version?", "short", [(f"count by (version) (pico_node_info{{{_C}}})", "{{version}}")]),
            Panel("Certificates", "How long are certificates good for?", "s", [(f"min by (port, file) (pico_certificate_expiry_timestamp_seconds{{{_C}}}) - time()", "{{port}}: {{file}}")]),
        ),
    ),
)  # fmt: skip

NODE: Final[Rows] = (
    (
        "Requests",
        (
            Panel("Requests by status", "How do requests end that came in here?", "reqps", [_by_class(_N)]),
            Panel("Time to the first byte", "How long do clients of this node wait for the beginning of a response?", "s", _quantiles("pico_first_byte_seconds", _N)),
            Panel("Where calls go", "To agents of this node, or to another one?", "reqps", [_rate("pico_routed_total", _N, "to")]),
            Panel("Errors by code", "Which errors does this node make, and which hop are they about?", "reqps", [_rate("pico_errors_total", _N, "code, hop", "{{code}} ({{hop}})")]),
            Panel("In progress", "How many connections, requests and calls are there?", "short", [(f"pico_connections{{{_N}}}", "connections"), (f"pico_requests_in_flight{{{_N}}}", "requests"), (f"pico_calls_pending{{{_N}}}", "calls")]),
            Panel("Resets", "Why do calls end early?", "reqps", [_rate("pico_resets_total", _N, "direction, code", "{{direction}} {{code}}")]),
        ),
    ),
    (
        "Load and limits",
        (
            Panel("CPU", "How much of a core does it use? A node is one core, unless cluster.workers says otherwise.", "percentunit", [(f"rate(process_cpu_seconds_total{{{_N}}}[$__rate_interval])", "{{worker}}")]),
            Panel("Lateness", "How late does it look at its work? Over 0.1 s it is overloaded.", "s", _quantiles("pico_reactor_lag_seconds", _N)),
            Panel("Memory", "How much memory does it have, and how much of that is held for slow peers?", "bytes", [(f"process_resident_memory_bytes{{{_N}}}", "resident"), (f"pico_buffered_bytes{{{_N}}}", "held")]),
            Panel("Limits", "How near is each limit?", "percentunit", [(f"pico_limit_used{{{_N}}} / pico_limit{{{_N}}}", "{{name}}")]),
            Panel("Open files", "How many file descriptors of those that it may have?", "percentunit", [(f"process_open_fds{{{_N}}} / process_max_fds{{{_N}}}", "open")]),
            Panel("HTTP/2", "How many connections of clients speak HTTP/2?", "short", [(f"pico_http2_connections{{{_N}}}", "connections")]),
        ),
    ),
    (
        "Agents and other nodes",
        (
            Panel("Sessions", "How many sessions of agents, for how many endpoints?", "short", [(f"pico_upstream_sessions{{{_N}}}", "sessions"), (f"pico_endpoints{{{_N}}}", "endpoints")]),
            Panel("Round trips to agents", "How far are agents?", "s", _quantiles("pico_heartbeat_seconds", _N)),
            Panel("Links", "How do the links to other nodes stand?", "short", [(f"pico_links{{{_N}}}", "{{state}}")]),
            Panel("Requests over links", "How many requests come from other nodes, and go to them?", "reqps", [_rate("pico_link_calls_total", _N, "direction")]),
            Panel("Other nodes", "What does this node believe of the others?", "short", [(f"pico_nodes{{{_N}}}", "{{status}}")]),
            Panel("Gossip", "How many packets?", "pps", [_rate("pico_gossip_packets_total", _N, "direction")]),
            Panel("News", "How long do changes at other nodes take to get here?", "s", _quantiles("pico_gossip_delay_seconds", _N)),
            Panel("Suspicion", "How near is a node to be taken for dead? At 8 it is.", "short", [(f"pico_gossip_suspicion{{{_N}}}", "highest")]),
        ),
    ),
    (
        "Process",
        (
            Panel("Certificates", "How long are certificates good for?", "s", [(f"pico_certificate_expiry_timestamp_seconds{{{_N}}} - time()", "{{port}}: {{file}}")]),
            Panel("Last reload", "Was the configuration taken at the last reload?", "bool_yes_no", [(f"pico_config_last_reload_success{{{_N}}}", "taken")], "stat"),
            Panel("Clock", "How wrong is its clock?", "s", [(f"pico_time_seconds{{{_N}}} - timestamp(pico_time_seconds{{{_N}}})", "off")]),
            Panel("Lines of the log that were lost", "Does whoever reads the log keep up?", "short", [(f"increase(pico_log_lines_lost_total{{{_N}}}[$__rate_interval])", "lost")]),
        ),
    ),
)  # fmt: skip

AGENTS: Final[Rows] = (
    (
        "Registered",
        (
            Panel("Listeners without a node", "How many listeners are not registered anywhere?", "short", [(f"sum(pico_agent_listeners{{{_A}}} - pico_agent_registered{{{_A}}})", "")], "stat"),
            Panel("Sessions", "How many sessions does each agent have?", "short", [(f"pico_agent_sessions{{{_A}}}", "{{instance}}")]),
            Panel("Attempts that failed", "Why do agents not reach nodes?", "cps", [_rate("pico_agent_connection_failures_total", _A, "reason")]),
            Panel("Registered again", "Which agents lose their sessions?", "cps", [_rate("pico_agent_reconnects_total", _A, "instance")]),
            Panel("Versions", "Which versions do agents have?", "short", [(f"count by (version) (pico_agent_info{{{_A}}})", "{{version}}")]),
        ),
    ),
    (
        "Services",
        (
            Panel("Calls by status", "How do services answer?", "reqps", [_by_class(_A)]),
            Panel("Duration", "How long do calls take?", "s", _quantiles("pico_request_seconds", _A)),
            Panel("Services that fail", "What is wrong with the services?", "reqps", [_rate("pico_agent_service_errors_total", _A, "reason")]),
            Panel("Calls in progress", "How many calls does each agent serve?", "short", [(f"pico_agent_calls{{{_A}}}", "{{instance}}")]),
            Panel("Connections to services", "How many connections are open, idle ones too?", "short", [(f"pico_agent_service_connections{{{_A}}}", "{{instance}}")]),
            Panel("Bytes", "How much goes through?", "Bps", [(f"sum(rate(pico_request_bytes_total{{{_A}}}[$__rate_interval]))", "to services"), (f"sum(rate(pico_response_bytes_total{{{_A}}}[$__rate_interval]))", "from services")]),
        ),
    ),
    (
        "Process",
        (
            Panel("CPU", "How much of a core does each use?", "percentunit", [(f"rate(process_cpu_seconds_total{{{_A}}}[$__rate_interval])", "{{instance}}")]),
            Panel("Memory", "How much memory does each have?", "bytes", [(f"process_resident_memory_bytes{{{_A}}}", "{{instance}}")]),
            Panel("Lateness", "How late do agents look at their work?", "s", _quantiles("pico_reactor_lag_seconds", _A)),
            Panel("Held for slow peers", "How near is limits.buffered_bytes?", "percentunit", [(f"pico_limit_used{{{_A}}} / pico_limit{{{_A}}}", "{{instance}}")]),
        ),
    ),
)  # fmt: skip


def _variable(name: str, label: str, query: str, *, many: bool = False) -> Json:
    everything = {"text": "All", "value": "$__all"} if many else {}
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": many,
        "includeAll": many,
        "current": everything,
        "hide": 0,
    }


_OF_CLUSTER: Final = _variable("cluster", "Cluster", 'label_values(pico_node_info{job="pico"}, cluster)')
_OF_NODE: Final = _variable("node", "Node", 'label_values(pico_node_info{job="pico",cluster="$cluster"}, node_id)')
_OF_AGENT: Final = _variable("agent", "Agent", 'label_values(pico_agent_info{job="pico-agents"}, instance)', many=True)

DASHBOARDS: Final[dict[str, tuple[str, Rows, Sequence[Json]]]] = {
    "cluster": ("Pico: cluster", CLUSTER, [_OF_CLUSTER]),
    "node": ("Pico: node", NODE, [_OF_CLUSTER, _OF_NODE]),
    "agents": ("Pico: agents", AGENTS, [_OF_AGENT]),
}
"""By the name of the file: title, panels and variables."""


def _panels(rows: Rows) -> Iterator[Json]:
    number, y = 0, 0
    for title, panels in rows:
        number += 1
        place = {"h": 1, "w": _COLUMNS, "x": 0, "y": y}
        yield {"id": number, "type": "row", "title": title, "gridPos": place, "collapsed": False, "panels": []}
        x, y, height = 0, y + 1, 0
        for panel in panels:
            number += 1
            wide, high = (4, 4) if panel.kind == "stat" else (8, 8)
            if x + wide > _COLUMNS:
                x, y, height = 0, y + height, 0
            yield _panel(number, panel, {"h": high, "w": wide, "x": x, "y": y})
            x, height = x + wide, max(height, high)
        y += height


def _panel(number: int, panel: Panel, place: Json) -> Json:
    targets = [
        {
            "refId": chr(ord("A") + at),
            "datasource": _DATASOURCE,
            "expr": expr,
            "legendFormat": legend or "__auto",
            "instant": panel.kind == "stat",
            "range": panel.kind != "stat",
        }
        for at, (expr, legend) in enumerate(panel.queries)
    ]
    options: Json = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}}
    if panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"], "values": False}, "colorMode": "value"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": options,
    }


def dashboard(name: str) -> Json:
    """A dashboard as Grafana imports it."""
    title, rows, variables = DASHBOARDS[name]
    datasource = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}
    return {
        "uid": f"pico-{name}",
        "title": title,
        "tags": ["pico"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [datasource, *variables]},
        "annotations": {"list": []},
        "links": [{"title": "Pico", "type": "dashboards", "tags": ["pico"], "asDropdown": True, "includeVars": True}],
        "panels": list(_panels(rows)),
    }


def expressions(name: str) -> Iterator[tuple[str, str]]:
    """The title of each panel of a dashboard, with each of its expressions."""
    for _, panels in DASHBOARDS[name][1]:
        for panel in panels:
            for expr, _ in panel.queries:
                yield panel.title, expr


def text(name: str) -> str:
    """What the file of a dashboard holds."""
    return json.dumps(dashboard(name), indent=2) + "\n"


def main() -> int:
    """The command. Returns its exit status."""
    stale = 0
    for name in DASHBOARDS:
        path = FOLDER / f"{name}.json"
        if "--check" not in sys.argv:
            path.write_text(text(name), encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text(name):
            print(f"{path.relative_to(ROOT)} is stale: make dashboards")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
