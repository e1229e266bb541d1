"""The ACME server of the booted machines, in their network: stands for Let's Encrypt.

    python -m tests.booted.acme DIRECTORY ADDRESS LEAD_TO

Writes `url` and `acme-root.pem` to the directory, and serves until its stdin ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tools.stage.acme import AcmeStage


def main() -> None:
    """The command."""
    directory, address, lead_to = sys.argv[1:]
    acme = AcmeStage(Path(directory), address=address, lead_to=lead_to, http_port=80, tls_port=443)
    Path(directory, "url").write_text(f"{acme.url}/directory")
    sys.stdin.read()


if __name__ == "__main__":
    main()
