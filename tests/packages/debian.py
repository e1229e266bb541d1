"""Builds the Debian package, has lintian look at it, and a machine that boots systemd live with it. Run by `make deb`.

    python -m tests.packages.debian

Needs root, debootstrap, systemd-container, dpkg and lintian. The package is installed, used, upgraded, removed and
purged; each step has commands of which none fails. It is left in dist/. The exit status is 1 when a promise is broken.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.booted.machines import CHECKOUT, machines
from tools.deb import build
from tools.stage.processes import ROOT, find_program

OLD: Final = "old.deb"
NEW: Final = "new.deb"
LIFE: Final = {
    "it is installed, and nothing is started": f"""
        dpkg -i {CHECKOUT}/{OLD}
        [ "$(stat -c '%U %G %a' /etc/pico/pico.yaml)" = 'root pico 640' ]
        [ "$(stat -c '%U %G %a' /etc/pico/pico-agent.yaml)" = 'root pico-agent 640' ]
        if systemctl is-active pico pico-agent; then exit 1; fi
        if systemctl is-enabled pico; then exit 1; fi
        picoctl --version
        picoctl check --as pico /etc/pico/pico.yaml
        """,
    "node and agent run, and a request gets through": """
        systemctl enable --now pico pico-agent
        picoctl status
        systemd-run --unit=shop python3 -m http.server 3000 --bind 127.0.0.1 --directory /usr/share/doc
        curl -s --fail --retry 10 --retry-delay 1 --retry-all-errors -o /dev/null \\
          -H 'x-pico-endpoint: my-endpoint' http://localhost:8000/
        systemctl reload pico pico-agent
        [ "$(ps -o user= -p $(systemctl show -p MainPID --value pico))" = pico ]
        """,
    "an upgrade keeps what was configured, and restarts what runs": f"""
        sed -i 's/^  level: info/  level: debug/' /etc/pico/pico.yaml
        grep 'level: debug' /etc/pico/pico.yaml
        before=$(systemctl show -p MainPID --value pico)
        DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i {CHECKOUT}/{NEW}
        grep 'level: debug' /etc/pico/pico.yaml
        [ "$(stat -c '%U %G %a' /etc/pico/pico.yaml)" = 'root pico 640' ]
        systemctl is-active pico pico-agent
        [ "$(systemctl show -p MainPID --value pico)" != "$before" ]
        picoctl status
        """,
    "a removal stops it, and leaves the configuration": """
        dpkg -r pico-twisted
        if systemctl is-active pico pico-agent; then exit 1; fi
        grep 'level: debug' /etc/pico/pico.yaml
        [ ! -e /usr/bin/picoctl ]
        [ ! -e /usr/lib/pico-twisted ]
        [ -z "$(find /usr/lib /lib/systemd/system -name 'pico*')" ]
        """,
    "a purge leaves nothing": """
        dpkg -P pico-twisted
        [ ! -e /etc/pico ]
        [ ! -e /var/lib/pico ]
        [ -z "$(find /etc/systemd -name 'pico*')" ]
        if dpkg -s pico-twisted; then exit 1; fi
        """,
    "it comes back": f"""
        dpkg -i {CHECKOUT}/{NEW}
        systemctl start pico
        picoctl status
        """,
}
"""The life of the package, by what it promises."""


def main() -> int:
    """Build, look, live. Returns the exit status."""
    wrong = []
    with tempfile.TemporaryDirectory(prefix="pico-debs-") as scratch:
        old, new = build(Path(scratch), "1"), build(ROOT / "dist", "2")
        print(f"built {new}: {new.stat().st_size / 1e6:.1f} MB", flush=True)
        lintian = [find_program("lintian", "lintian"), "--allow-root", "--fail-on", "error,warning", str(new)]
        found = subprocess.run(lintian, capture_output=True, text=True, check=False)
        print(f"lintian finds nothing: {'no' if found.returncode else 'yes'}", flush=True)
        if found.returncode:
            print(found.stdout + found.stderr, file=sys.stderr)
            wrong.append("lintian")
        with machines(["n1"]) as (machine,):
            for package, name in ((old, OLD), (new, NEW)):
                shutil.copy2(package, machine.path(CHECKOUT) / name)
            for promise, script in LIFE.items():
                done = machine.run(f"set -x\n{script}")
                print(f"{promise}: {'no' if done.returncode else 'yes'}", flush=True)
                if done.returncode:
                    wrong.append(promise)
                    print(done.stdout, file=sys.stderr)
                    break
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
