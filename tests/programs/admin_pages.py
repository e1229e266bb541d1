"""The admin port in a browser: a person logs in, and no page of anybody else uses that."""

from __future__ import annotations

from typing import Final

from pico_twisted.core.access.credentials_file import hash_of
from tests.programs.browser import Browser, browser
from tests.system.service import Connection, Service, answer
from tools.stage.certificates import Authority
from tools.stage.report import Report
from tools.stage.stage import Stage

TOKEN: Final = "pico_operator-in-a-browser"

_HOSTILE: Final = """<!DOCTYPE html><title>hostile</title><p>hostile page</p>"""
_TRIES: Final = """(async () => {
  const url = "URL", said = {};
  const tries = async (what, promise) => {
    said[what] = await promise.then(answer => answer.type === "opaque" ? "opaque" : "read", () => "refused");
  };
  await tries("read", fetch(url + "/metrics", {credentials: "include"}));
  await tries("read health", fetch(url + "/health"));
  await tries("opaque", fetch(url + "/status/cluster/nodes", {mode: "no-cors", credentials: "include"}));
  await tries("post", fetch(url + "/reload", {method: "POST", mode: "no-cors", credentials: "include"}));
  await tries("field", fetch(url + "/reload", {method: "POST", headers: {"x-pico-operator": "me"}}));
  await tries("log out", fetch(url + "/logout", {method: "POST", mode: "no-cors", credentials: "include"}));
  const loads = (kind, attribute) => new Promise(done => {
    const made = document.createElement(kind);
    made.onload = () => done("loaded");
    made.onerror = () => done("refused");
    made[attribute] = url + "/metrics";
    document.body.append(made);
  });
  said.script = await loads("script", "src");
  said.image = await loads("img", "src");
  const frame = document.createElement("iframe");
  const framed = new Promise(done => frame.onload = done);
  frame.src = url + "/login";
  document.body.append(frame);
  await framed;
  said.socket = await new Promise(done => {
    const socket = new WebSocket(url.replace("http", "ws") + "/");
    socket.onopen = () => done("opened");
    socket.onerror = () => done("refused");
  });
  return said;
})()"""
_POSTS: Final = """(() => {
  const form = document.createElement("form");
  form.method = "post"; form.action = "TARGET";
  form.innerHTML = '<input name="token" value="VALUE">';
  document.body.append(form); form.submit();
})()"""


def admin_pages(stage: Stage, report: Report) -> None:
    """A node whose admin port authenticates, a browser with an operator in it, and hostile pages beside them."""
    tokens = stage.directory / "operators"
    tokens.write_text(f"ann sha256:{hash_of(TOKEN.encode()).hex()} admin:operate\n")
    node = stage.node("n3", {"admin": {"auth": {"tokens_file": str(tokens)}}})
    open_node = stage.node("n4")
    pair = Authority(stage.directory).issue("admin")
    tls = {"cert": str(pair.cert), "key": str(pair.key)}
    secure = stage.node("n5", {"admin": {"auth": {"tokens_file": str(tokens)}, "tls": tls}}, wait=False)
    secure.wait_output("is up")
    service = Service()

    def serve(connection: Connection) -> None:
        connection.request_head()
        connection.send(answer(_HOSTILE.encode(), headers=[("Content-Type", "text/html")]))

    service.script = serve
    port = service.address.rpartition(":")[2]
    # A name that leads here, without a proxy; and all frames in one process, so that they are told of.
    flags = [
        "--ignore-certificate-errors",
        "--host-resolver-rules=MAP evil.example 127.0.0.1",
        "--no-proxy-server",
        "--disable-site-isolation-trials",
    ]
    try:
        with browser(stage.directory / "profile-admin", flags) as shown:
            _logs_in(shown, f"http://127.0.0.1:{node.ports.admin}", report)
            for host in ("127.0.0.1", "localhost", "evil.example"):
                _hostile(shown, f"http://{host}:{port}", node.ports.admin, report)
            for host, shows in (("127.0.0.1", "Worth a look"), ("evil.example", "Log in")):
                shown.open(f"http://{host}:{port}/", "hostile page")
                shown.run(f"location = 'http://127.0.0.1:{node.ports.admin}/'")
                report.check(f"a link of {host} leads to {shows}", shown.comes(shows), shown.text)
            _rebinds(shown, node.ports.admin, report)
            _hostile(shown, f"http://127.0.0.1:{port}", open_node.ports.admin, report)
            _rebinds(shown, open_node.ports.admin, report)
            _logs_out(shown, node.ports.admin, report)
            _logs_in(shown, f"https://127.0.0.1:{secure.ports.admin}", report)
    finally:
        service.close()
    changed = [one for daemon in (node, open_node) for one in daemon.records if "reloaded" in one.get("message", "")]
    report.check("no hostile page changed anything", not changed, str(changed))


def _logs_in(shown: Browser, url: str, report: Report) -> None:
    shown.tell("Emulation.setDeviceMetricsOverride", width=360, height=640, deviceScaleFactor=1, mobile=True)
    report.check("a person is asked for a token", shown.open(url + "/", "Log in"), shown.text)
    width = shown.run("document.documentElement.scrollWidth")
    report.check("on a screen of 360 px", width == 360, str(width))
    shown.run("document.getElementById('token').value = 'wrong'; document.forms[0].requestSubmit()")
    report.check("a wrong one does not do", shown.comes("not known here"), shown.text)
    shown.run(f"document.getElementById('token').value = '{TOKEN}'; document.forms[0].requestSubmit()")
    report.check("the right one does", shown.comes("Worth a look"), shown.text)
    report.check("no script sees the cookie", shown.run("document.cookie") == "", "it does")
    kept = shown.tell("Network.getCookies", urls=[url])["cookies"]
    port, secure = url.rpartition(":")[2], url.startswith("https")
    (cookie,) = [one for one in kept if one["name"].endswith(f"pico-session-{port}")]
    strict = cookie["httpOnly"] and cookie["sameSite"] == "Strict" and cookie["secure"] == secure
    named = cookie["name"].startswith("__Host-") == secure
    report.check("it is for this port alone, and over TLS for nothing else", strict and named, str(cookie))
    report.check("it says who is logged in", shown.open(url + "/login", "Logged in as ann"), shown.text)


def _hostile(shown: Browser, hostile: str, port: int, report: Report) -> None:
    url = f"http://127.0.0.1:{port}"
    shown.open(hostile + "/", "hostile page")
    said = shown.run(_TRIES.replace("URL", url))
    wanted = {
        "read": "refused",
        "read health": "refused",
        "opaque": "opaque",
        "post": "opaque",
        "field": "refused",
        "log out": "opaque",
        "script": "refused",
        "image": "refused",
        "socket": "refused",
    }
    without = {**wanted, "opaque": "refused", "post": "refused", "log out": "refused"}  # as of another site
    fine = isinstance(said, dict) and all(said[name] in (wanted[name], without[name]) for name in wanted)
    report.check(f"{hostile} at {url}: no script reads anything", fine, str(said))
    frames = shown.tell("Page.getFrameTree").get("frameTree", {}).get("childFrames", [])
    framed = [one["frame"].get("unreachableUrl", "") or one["frame"]["url"] for one in frames]
    blocked = all(one["frame"].get("unreachableUrl") or "chrome-error" in one["frame"]["url"] for one in frames)
    report.check(f"{hostile}: nor shows it in a frame", bool(frames) and blocked, str(framed))
    for target, value in ((f"{url}/reload", ""), (f"{url}/login", TOKEN), (f"{url}/logout", "")):
        shown.open(hostile + "/", "hostile page")
        shown.run(_POSTS.replace("TARGET", target).replace("VALUE", value))
        report.check(f"{hostile}: a form for {target}", shown.comes("pages of other origins"), shown.text)


def _rebinds(shown: Browser, port: int, report: Report) -> None:
    shown.tell("Page.enable")
    shown.tell("Page.setBypassCSP", enabled=True)  # the stranger's own page, from before, would have no such policy
    here = shown.open(f"http://evil.example:{port}/", "admin.hosts")
    report.check("a name that is made to have our address", here, shown.text)
    said = shown.run("fetch('/metrics').then(answer => answer.status)")
    report.check("reads nothing", said == 421, str(said))
    said = shown.run("fetch('/reload', {method: 'POST', headers: {'x-pico-operator': 'me'}}).then(a => a.status)")
    report.check("and changes nothing", said == 421, str(said))
    shown.tell("Page.setBypassCSP", enabled=False)


def _logs_out(shown: Browser, port: int, report: Report) -> None:
    url = f"http://127.0.0.1:{port}"
    report.check("the person is still logged in", shown.open(url + "/metrics", "pico_build_info"), shown.text[:300])
    shown.open(url + "/login", "Log out")
    shown.run("document.forms[0].requestSubmit()")
    report.check("until they log out", shown.comes("Log in"), shown.text)
    report.check("and then meets the page again", shown.open(url + "/metrics", "Log in"), shown.text[:300])
