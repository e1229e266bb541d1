"""Follows docs/run.md, docs/cluster.md, docs/production.md and docs/packages.md on three machines that boot systemd.

    python -m tests.booted.run [by-hand] [production] [packages]

Run by `make systemd`. Each part begins with bare machines. The commands are read from the pages: a block marked
`sh every` is run by root in the checkout on each machine, one marked `sh one` on the first alone, and what that made
is copied to the others. A block of YAML that begins with the name of a file becomes that file. Where a page says `n1`,
each machine has its own name.

What the pages need of the world around is made beforehand: names in DNS, a service, and an ACME server in place of
Let's Encrypt. Prints what fails with its output; the exit status is 1 then.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.booted.machines import CHECKOUT, NETWORK, OUTSIDE, Machine, machines
from tests.pages.blocks import BOOTED, Block, blocks
from tools.stage.processes import ROOT
from tools.stage.report import Options
from tools.stage.waiting import wait_until

NAMES: Final = ("n1", "n2", "n3")
MADE: Final = ("cluster-secret", "*.pem", "tokens", "*.token", "pico-cluster/*")
"""Files that are made on one machine and copied to the others."""

INSIDE: Final = {
    "a reload works with LoadCredential, and fails when anything is wrong": """
        cd /etc/systemd/system
        mkdir -p pico.service.d
        printf '[Service]\\nLoadCredential=secret:/etc/pico/cluster-secret\\n' > pico.service.d/secret.conf
        sed -i 's|/etc/pico/cluster-secret|/run/credentials/pico.service/secret|' /etc/pico/pico.yaml
        systemctl daemon-reload
        systemctl restart pico
        systemctl reload pico
        echo 'nonsense: 1' >> /etc/pico/pico.yaml
        if systemctl reload pico; then exit 1; fi
        journalctl --no-pager -u pico | grep 'not reloaded: nonsense'
        sed -i '/^nonsense/d' /etc/pico/pico.yaml
        systemctl reload pico
        """,
    "a restart with pico.socket refuses no connection": """
        sed 's/127.0.0.1://' etc/systemd/pico.socket > /etc/systemd/system/pico.socket
        systemctl daemon-reload
        systemctl stop pico
        systemctl start pico.socket
        systemctl start pico
        systemctl restart pico &
        while kill -0 $! 2> /dev/null; do curl -s -o /dev/null --max-time 60 http://localhost:8000/; done
        wait $!
        picoctl status
        """,
    "workers of another user have ports below 1024": """
        /opt/pico/venv/bin/twistd -n --pidfile= --uid pico --gid pico pico --cluster.workers=2 \\
          --proxy.bind-addr=127.0.0.1:833 --upstream.bind-addr=127.0.0.1:8102 --admin.bind-addr=127.0.0.1:8101 \\
          --cluster.gossip.bind-addr=127.0.0.1:8103 &
        daemon=$!
        curl -s --fail --retry 20 --retry-delay 1 --retry-all-errors http://127.0.0.1:8101/ready
        [ "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:833/)" = 400 ]
        [ "$(ps -o user= --ppid $daemon | sort -u)" = pico ]
        kill $daemon
        wait $daemon
        """,
}
"""What the first two pages promise in prose, by its words: commands of which none fails, on one machine."""

OUTWARD: Final = {
    "an agent whose token was taken away serves nobody, at any node": """
        for node in 10.0.0.1 10.0.0.2 10.0.0.3; do
          for try in 1 2 3 4 5; do
            told=$(curl -s -o /dev/null -w '%{http_code}' --resolve acme-shop.tunnel.example.com:443:$node \\
              https://acme-shop.tunnel.example.com/)
            if [ "$told" = 502 ]; then break; fi
            sleep 1
          done
          [ "$told" = 502 ]
        done
        for try in $(seq 30); do
          if journalctl --no-pager -u pico-agent | grep -q revoked; then break; fi
          sleep 1
        done
        journalctl --no-pager -u pico-agent | grep revoked
        if journalctl --no-pager -u pico -u pico-agent | grep -F "$(cat acme.token)"; then exit 1; fi
        """,
    "nobody gets in without a token": """
        [ "$(curl -s -o /dev/null -w '%{http_code}' https://tunnel.example.com:8002/pico/v1/listener/acme-shop \\
          -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \\
          -H 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==')" = 401 ]
        [ "$(curl -sk -o /dev/null -w '%{http_code}' https://10.0.0.2:8001/status)" = 401 ]
        [ "$(curl -sk -o /dev/null -w '%{http_code}' https://10.0.0.2:8001/metrics)" = 401 ]
        if picoctl status --admin https://10.0.0.2:8001 --ca /etc/pico/node-ca.pem; then exit 1; fi
        """,
}
"""What the page on production promises."""

INSTALLED: Final = {
    "what is there already is left": """
        picoctl service install node | grep 'nothing to change'
        picoctl service install agent | grep 'nothing to change'
        echo '# mine' >> /etc/systemd/system/pico.service
        picoctl service install node | grep 'somebody wrote it'
        tail -n 1 /etc/systemd/system/pico.service | grep '# mine'
        sed -i '$d' /etc/systemd/system/pico.service
        """,
    "each daemon reads its own files, and nobody else does": """
        [ "$(stat -c '%U %G %a' /etc/pico/node-key.pem)" = 'root pico 640' ]
        [ "$(stat -c '%U %G %a' /etc/pico/agent.token)" = 'root pico-agent 640' ]
        if setpriv --reuid=pico-agent --clear-groups cat /etc/pico/node-key.pem; then exit 1; fi
        if setpriv --reuid=nobody --clear-groups cat /etc/pico/pico.yaml; then exit 1; fi
        """,
    "a request gets to a service through each node": """
        for node in 10.0.0.1 10.0.0.2 10.0.0.3; do
          curl -s --fail --retry 10 --retry-delay 1 --retry-all-errors -o /dev/null \\
            -H 'x-pico-endpoint: my-endpoint' http://$node:8000/
        done
        """,
    "a certificate that was signed again is taken": """
        for try in $(seq 30); do
          if journalctl --no-pager -u pico | grep 'Files have changed and are used'; then break; fi
          sleep 1
        done
        journalctl --no-pager -u pico | grep 'Files have changed and are used'
        """,
    "a Python below /root is refused": """
        cp -a /opt/pico/venv /root/venv
        if /root/venv/bin/python -c 'from pico_twisted.ctl.main import main; main()' service install node > told 2>&1
        then exit 1; fi
        grep 'where a service sees nothing (ProtectHome=yes in the unit)' told
        """,
    "what cannot start says why, and changes nothing": """
        picoctl service remove node
        echo 'nonsense: 1' >> /etc/pico/pico.yaml
        if /opt/pico/venv/bin/picoctl service install node > told 2>&1; then exit 1; fi
        grep 'nonsense (/etc/pico/pico.yaml:' told
        if systemctl is-active pico; then exit 1; fi
        [ ! -e /etc/systemd/system/pico.service ]
        """,
    "removal leaves what an operator wrote": """
        picoctl service remove agent | grep 'left: .*/etc/pico'
        if systemctl is-active pico-agent; then exit 1; fi
        [ ! -e /usr/local/bin/picoctl ]
        [ -e /etc/pico/pico.yaml ]
        """,
}
"""What the page on packages promises, on one machine of a cluster that was made as it says."""

SHOP: Final = "systemd-run --unit=shop python3 -m http.server 3000 --bind 127.0.0.1 --directory /usr/share/doc"
"""A service."""

AROUND: Final = f"""
    for node in 10.0.0.1 10.0.0.2 10.0.0.3; do
      echo "$node tunnel.example.com acme-shop.tunnel.example.com" >> /etc/hosts
    done
    {SHOP}
    """
"""What is there before the page on production begins: DNS, and a service."""


def follow(machine: Machine, block: Block, acme: Mapping[str, str]) -> str:
    """Do on a machine what a block says. Returns what went wrong; empty when all went well.

    Args:
        machine: where.
        block: of a page.
        acme: keys that name the ACME server, for files that order certificates.
    """
    own = re.sub(r"\bn1\b", machine.name, block.text) if block.how != "one" else block.text
    if block.file:
        further = "".join(f"      {key}: {value}\n" for key, value in acme.items())
        machine.path(block.file).write_text(own.replace("    acme:\n", f"    acme:\n{further}"))
        return ""
    done: subprocess.CompletedProcess[str] = machine.run(f"set -x\n{own}")
    return (
        "" if done.returncode == 0 else f"{block.place} on {machine.name} ended with {done.returncode}:\n{done.stdout}"
    )


@contextlib.contextmanager
def acme_server(all_of_them: Sequence[Machine]) -> Iterator[dict[str, str]]:
    """An ACME server outside of the machines, which trust it. Gives the keys that name it."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "tests.booted.acme", scratch, OUTSIDE, "10.0.0.1"]
        inside = ["nsenter", f"--net=/run/netns/{NETWORK}", *command]
        process = subprocess.Popen(inside, cwd=ROOT, stdin=subprocess.PIPE)
        try:
            url = Path(scratch, "url")
            wait_until(url.exists, "the ACME server")
            for machine in all_of_them:
                shutil.copy(Path(scratch, "acme-root.pem"), machine.path("/srv/acme-root.pem"))
                machine.path("/etc/ssl/certs").mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(scratch, "acme-root.pem"), machine.path("/etc/ssl/certs/ca-certificates.crt"))
            yield {"directory": url.read_text(), "ca": "/srv/acme-root.pem"}
        finally:
            process.terminate()
            process.wait()


def _is_followed(block: Block) -> bool:
    """Whether a block says what to do on these machines."""
    return block.how in BOOTED if block.language == "sh" else block.file.startswith("/")


def hand_out(first: Machine, others: list[Machine]) -> None:
    """Copy what was made on one machine to the others."""
    for pattern in MADE:
        for made in first.path(CHECKOUT).glob(pattern):
            for other in others:
                target = other.path(CHECKOUT) / made.relative_to(first.path(CHECKOUT))
                target.parent.mkdir(exist_ok=True)
                shutil.copy2(made, target)


def follow_pages(pages: Sequence[str], all_of_them: list[Machine], acme: Mapping[str, str]) -> bool:
    """Follow pages, block after block, on all machines at once. Returns whether all went well."""
    first, *others = all_of_them
    with ThreadPoolExecutor(len(all_of_them)) as at_once:
        for block in [block for page in pages for block in blocks(page) if _is_followed(block)]:
            there = [first] if block.how == "one" else all_of_them
            print(f"{block.place}  {block.how:<6}  on {', '.join(one.name for one in there)}", flush=True)
            wrong = list(filter(None, at_once.map(lambda machine: follow(machine, block, acme), there)))  # noqa: B023 - awaited
            if wrong:
                print("\n".join(wrong), file=sys.stderr)
                for machine in all_of_them:
                    logs = machine.run(
                        "systemctl --no-pager status pico pico-agent; journalctl --no-pager -n 40 -u pico -u pico-agent"
                    )
                    print(f"-- {machine.name}\n{logs.stdout}", file=sys.stderr)
                return False
            if block.how == "one":
                hand_out(first, others)
    return True


def keep(promises: Mapping[str, str], machine: Machine) -> bool:
    """Try what pages promise. Returns whether all is true."""
    kept = True
    for promise, script in promises.items():
        done = machine.run(f"set -x\n{script}")
        print(f"{promise}: {'no' if done.returncode else 'yes'}", flush=True)
        if done.returncode:
            kept = False
            print(done.stdout, file=sys.stderr)
    return kept


def install_by_hand() -> bool:
    """Follow the pages on running and on clusters, command by command. Returns whether all went well."""
    with machines(NAMES) as all_of_them:
        first = all_of_them[0]
        if not follow_pages(("docs/run.md", "docs/cluster.md"), all_of_them, {}):
            return False
        told = first.run("picoctl status nodes --json").stdout
        active = {row["id"] for row in json.loads(told) if row["status"] == "active"}
        print(f"active: {', '.join(sorted(active))}", flush=True)
        return keep(INSIDE, first) and active == set(NAMES)


def go_into_production() -> bool:
    """Follow the checklist on bare machines. Returns whether all went well."""
    with machines(NAMES) as all_of_them, acme_server(all_of_them) as acme:
        for machine in all_of_them:
            machine.run(AROUND)
        return follow_pages(("docs/production.md",), all_of_them, acme) and keep(OUTWARD, all_of_them[0])


def install_with_picoctl() -> bool:
    """Follow the page on packages, where picoctl does all of it. Returns whether all went well."""
    with machines(NAMES) as all_of_them:
        for machine in all_of_them:
            machine.run(SHOP)
        return follow_pages(("docs/packages.md",), all_of_them, {}) and keep(INSTALLED, all_of_them[0])


PARTS: Final = {"by-hand": install_by_hand, "production": go_into_production, "packages": install_with_picoctl}


def main() -> int:
    """Follow the pages. Returns the exit status."""
    parts = Options(__doc__, PARTS).read().parts
    wrong = [part for part in parts if not PARTS[part]()]
    for part in wrong:
        print(f"{part}: not as the pages say", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
