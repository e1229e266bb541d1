"""A browser that speaks HTTP/2 over TLS: a page, fifty requests of it at once, an upload, and a WebSocket."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from tests.programs.browser import browser
from tests.system.service import Connection, Service, answer
from tests.system.test_upgrades import echo_websocket
from tools.stage.certificates import Tls
from tools.stage.report import Report
from tools.stage.stage import Stage

PAGE: Final = b"""<!DOCTYPE html><p></p><script>
(async () => {
  const shows = text => document.querySelector("p").append(text + "; ");
  const texts = await Promise.all([...Array(50).keys()].map(n => fetch("/" + n).then(answer => answer.text())));
  shows("whole " + texts.filter((text, n) => text === "/" + n).length);
  shows("sent " + await (await fetch("/up", {method: "POST", body: new Uint8Array(3000000)})).text());
  const spoken = new Set(performance.getEntriesByType("resource").map(entry => entry.nextHopProtocol));
  shows("over " + [...spoken].join(" "));
  const socket = new WebSocket("wss://" + location.host + "/socket");
  socket.onmessage = message => { shows("echo " + message.data); document.title = "over"; };
  socket.onerror = () => { shows("no socket"); document.title = "over"; };
  socket.onopen = () => socket.send("hello");
})();
</script>"""
SAID: Final = "whole 50; sent 3000000; over h2; echo hello;"


def in_chromium(directory: Path, report: Report) -> None:
    """Run it through one node and through two."""

    def serve(connection: Connection) -> None:
        while True:
            request = connection.request_head()
            if request.get("upgrade") == b"websocket":
                echo_websocket(connection, request)
                return
            request.body = connection.body(60)
            if request.target == b"/":
                connection.send(answer(PAGE, headers=[("Content-Type", "text/html; charset=utf-8")]))
            elif request.target == b"/up":
                connection.send(answer(b"%d" % len(request.body)))
            else:
                connection.send(answer(request.target))

    tls = Tls.make(directory)
    service = Service(serve)
    stage = Stage(directory, tls)
    with contextlib.closing(service), contextlib.closing(stage):
        first = stage.node("h1")
        second = stage.node("h2", {"cluster": {"join": [f"127.0.0.1:{first.ports.gossip}"]}})
        stage.agent(first, {"web": service.address})
        for where, node in (("one node", first), ("two nodes", second)):
            url = f"https://web.localhost:{node.ports.proxy}/"
            with browser(directory / f"profile-{node.name}", ["--ignore-certificate-errors"]) as page:
                came = page.open(url, SAID)
                report.check(f"{where}: a page over HTTP/2 in chromium", came, page.text)
