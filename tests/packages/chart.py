"""Renders the chart of packaging/helm with Helm's own code, and holds it against Kubernetes. Run by `make chart`.

    python -m tests.packages.chart

Helm is that of the distribution helm-python-sdk, the schemas those of kubernetes-validate, both from PyPI. No cluster
is asked. The configuration in what is rendered is checked by `picoctl check`. The exit status is 1 when anything is
wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.ctl.harness import picoctl
from tests.packages.programs import programs
from tools.stage.processes import ROOT

CHART: Final = ROOT / "packaging" / "helm" / "pico"
VERSIONS: Final = ("1.25.0", "1.30.0", "1.36.0")
"""Of Kubernetes: the oldest that the chart names, and newer ones."""
TOKENS: Final = "operator sha256:" + "a" * 64 + " admin:operate\n"
CASES: Final[Mapping[str, Mapping[str, Any]]] = {
    "the defaults": {},
    "all that is optional": {
        "tokens": TOKENS,
        "clusterSecret": "c" * 40,
        "persistence": {"enabled": True, "storageClassName": "fast"},
        "serviceMonitor": {"enabled": True, "tokenSecret": "prometheus", "labels": {"release": "prometheus"}},
        "networkPolicy": {
            "enabled": True,
            "operators": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        },
        "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
        "config": {"proxy": {"public_url": "https://*.tunnel.example.com", "trusted_proxies": ["10.0.0.0/8"]}},
        "agent": {"enabled": True, "listeners": [{"endpoint": "shop", "addr": "shop:80"}], "tokenSecret": "agent"},
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "extraVolumes": [{"name": "certificates", "secret": {"secretName": "tls"}}],
        "extraVolumeMounts": [{"name": "certificates", "mountPath": "/etc/pico/tls"}],
    },
    "one node, a secret of one's own": {"replicas": 1, "existingSecret": "mine", "auth": True},
}
WRONG: Final[Mapping[str, Mapping[str, Any]]] = {
    "no node": {"replicas": 0},
    "auth without tokens": {"auth": True},
    "a secret that is short": {"clusterSecret": "short"},
    "a listener without an address": {"agent": {"enabled": True, "listeners": [{"endpoint": "shop"}]}},
}
"""Values that have to be refused."""
PROGRAM: Final = """
import json, sys
import kubernetes_validate, yaml
from helm_python.chart import Chart, lint
from helm_python.errors import HelmError
path, cases, wrong, versions = json.load(sys.stdin)
found = {"lint": lint(path), "rendered": {}, "invalid": [], "refused": {}}
with Chart.load(path) as chart:
    for name, values in cases.items():
        texts = chart.render(values=values, name="demo")
        texts = [text for file, text in texts.items() if not file.endswith(".txt")]
        documents = [one for text in texts for one in yaml.safe_load_all(text) if one]
        found["rendered"][name] = documents
        for version in versions:
            for one in documents:
                try:
                    kubernetes_validate.validate(one, version, strict=True)
                except kubernetes_validate.SchemaNotFoundError:  # of a kind that an operator brings
                    if one["kind"] != "ServiceMonitor":
                        raise
                except kubernetes_validate.ValidationError as error:
                    found["invalid"].append(f"{name}, {version}, {one['kind']} {one['metadata']['name']}: {error}")
    for name, values in wrong.items():
        try:
            chart.render(values=values, name="demo")
        except HelmError as error:
            found["refused"][name] = str(error)
json.dump(found, sys.stdout)
"""


def render() -> dict[str, Any]:
    """What Helm and the schemas say."""
    with programs("helm-python-sdk>=0.2", "kubernetes-validate>=1.36", "PyYAML") as found:
        asked = json.dumps([str(CHART), CASES, WRONG, VERSIONS])
        command = [str(found / "python"), "-c", PROGRAM]
        done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        said: dict[str, Any] = json.loads(done.stdout)
        return said


def configuration_faults(documents: list[dict[str, Any]]) -> list[str]:
    """What `picoctl check` says of the configurations in what was rendered, with the files beside them."""
    wrong = []
    for one in documents:
        for name, text in one.get("data", {}).items():
            if one["kind"] != "ConfigMap":
                continue
            with tempfile.TemporaryDirectory() as scratch:
                for file, content in {"cluster-secret": "c" * 40, "tokens": TOKENS, "token": "t" * 40}.items():
                    Path(scratch, file).write_text(content)
                config = Path(scratch, name)
                config.write_text(text.replace("/etc/pico/secret", scratch))
                done = picoctl("check", *(["--agent"] if "agent" in name else []), str(config))
                wrong += [] if done.returncode == 0 else [f"{name}: {done.stderr}"]
    return wrong


def promises(documents: list[dict[str, Any]]) -> list[str]:
    """Which promises about the containers are not kept."""
    wrong = []
    for one in documents:
        if one["kind"] not in ("StatefulSet", "Deployment"):
            continue
        pod = one["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        strict = container["securityContext"]
        kept = {
            "runs as nobody's user": pod["securityContext"]["runAsNonRoot"],
            "writes nothing to its image": strict["readOnlyRootFilesystem"],
            "has no capability": strict["capabilities"]["drop"] == ["ALL"],
            "has no token of Kubernetes": pod["automountServiceAccountToken"] is False,
            "says when it is ready": container["readinessProbe"],
        }
        wrong += [f"{one['kind']}: not so: {promise}" for promise, so in kept.items() if not so]
    return wrong


def main() -> int:
    """Render and look. Returns the exit status."""
    found = render()
    wrong: list[str] = [*found["lint"]["errors"], *found["invalid"]]
    wrong += [f"not refused: {name}" for name in WRONG if name not in found["refused"]]
    for name, documents in found["rendered"].items():
        kinds = sorted(one["kind"] for one in documents)
        print(f"{name}: {', '.join(kinds)}")
        wrong += [f"{name}: {fault}" for fault in (*configuration_faults(documents), *promises(documents))]
    print(f"held against Kubernetes {', '.join(VERSIONS)}; refused: {', '.join(found['refused'])}")
    print("\n".join(wrong), file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
