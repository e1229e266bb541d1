"""The inspector in a browser: flows by keyboard, hostile bodies that stay text, pages of others that get nothing."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import urllib.request
import zlib
from functools import partial
from typing import Final

from tests.programs.browser import Browser, browser
from tests.programs.page import axe
from tests.system.service import Service, answer
from tests.system.wire import Request
from tools.stage.asking import get
from tools.stage.nodes import Node
from tools.stage.processes import environment
from tools.stage.report import Report
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

KEY: Final = "the-key-of-the-inspector"
_EVIL: Final = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'><svg onload='window.pwned = 1'>"
_SVG: Final = f'<svg xmlns="http://www.w3.org/2000/svg" onload="window.pwned = 1">{_EVIL}</svg>'
_ATTACK: Final = '<!DOCTYPE html><title>attack</title><link rel="icon" href="data:,"><p>attacking page</p>'
"""With an icon in it: a browser asks for none, then, whenever it likes."""
_TRIES: Final = """(async () => {
  const url = "URL", said = {};
  const tries = async (what, promise) => {
    said[what] = await promise.then(answer => answer.type === "opaque" ? "opaque" : "read", () => "refused");
  };
  const key = {headers: {Authorization: "Bearer KEY"}};
  await tries("list", fetch(url + "/api/requests"));
  await tries("list with key", fetch(url + "/api/requests", key));
  await tries("page", fetch(url + "/"));
  await tries("replay", fetch(url + "/api/requests/1/replay", {method: "POST", mode: "no-cors"}));
  await tries("replay with key", fetch(url + "/api/requests/1/replay", {method: "POST", ...key}));
  await tries("clear", fetch(url + "/api/requests", {method: "DELETE", ...key}));
  const frame = document.createElement("iframe");
  const framed = new Promise(done => frame.onload = done);
  frame.src = url + "/";
  document.body.append(frame);
  await framed;
  said.frame = (() => { try { return frame.contentDocument ? "read" : "refused"; } catch { return "refused"; } })();
  const script = document.createElement("script");
  said.script = await new Promise(done => {
    script.onload = () => done("loaded"); script.onerror = () => done("refused");
    script.src = url + "/inspect.js"; document.body.append(script);
  });
  return said;
})()"""


def _png() -> bytes:
    """A picture of one grey point."""
    chunks = (
        (b"IHDR", bytes((0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0))),
        (b"IDAT", zlib.compress(b"\0\x80")),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in chunks
    )


def _respond(request: Request) -> bytes:
    bodies = {
        b"/html": ("text/html", _EVIL.encode()),
        b"/svg": ("image/svg+xml", _SVG.encode()),
        b"/json": ("application/json", json.dumps({"evil": _EVIL, "n": [1, True, None]}).encode()),
        b"/xml": ("application/xml", b"<a><b>1</b><script>window.pwned = 1</script></a>"),
        b"/png": ("image/png", _png()),
        b"/lying.png": ("image/png", _SVG.encode()),
        b"/bin": ("application/octet-stream", bytes(range(256))),
    }
    if request.target == b"/hook":
        return answer(b'{"error": "nobody is home"}', status=500, headers=[("Content-Type", "application/json")])
    kind, body = bodies.get(request.target, ("text/html", _ATTACK.encode()))
    return answer(body, headers=[("Content-Type", kind), ("X-Evil", _EVIL), ("Set-Cookie", "session=s3cret")])


def inspector(stage: Stage, report: Report) -> None:
    """A node, an agent with an inspector, a browser with a developer in it, and an attacker beside them."""
    service = Service()
    service.handler = _respond
    (stage.directory / "inspector-key").write_text(KEY)
    settings = {"enabled": True, "bind_addr": "127.0.0.1:0", "key_file": str(stage.directory / "inspector-key")}
    node = stage.node("inspected")
    agent = stage.agent(node, {"shop": service.address}, {"inspect": settings}, name="inspected-agent")
    agent.wait_output("What passes is shown")
    (url,) = [one["url"] for one in agent.records if "What passes" in one.get("message", "")]
    paths = ("/html", "/svg", "/json", "/xml", "/png", "/lying.png", "/bin", f"/<img%20src=x>{_EVIL[:8]}")
    flags = ["--host-resolver-rules=MAP evil.example 127.0.0.1", "--no-proxy-server"]
    with contextlib.closing(service), browser(stage.directory / "profile-inspector", flags) as shown:
        shown.tell("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
        _without_key(shown, url, report)
        for path in paths:
            get(node.ports.proxy, path, {"x-pico-endpoint": "shop", "cookie": "session=s3cret"})
        _hostile_bodies(shown, url, len(paths), report)
        _hook(node)
        _by_keyboard(shown, url, service, report)
        for host in ("127.0.0.1", "localhost", "evil.example"):
            _attacked(shown, f"http://{host}:{service.port}", url, service, report)
        _hook(node)
        _for_everybody(shown, url, stage, report)
        _archive(url, stage, report)


def _hook(node: Node) -> None:
    """A webhook comes, and fails."""
    body = b'{"paid": 12}'
    fields = ["-H", "x-pico-endpoint:shop", "-H", "content-type:application/json", "-H", "authorization:Bearer_s3cret"]
    command = ["curl", "-q", "-s", "--noproxy", "*", *fields, "--data-binary", body.decode()]
    subprocess.run(
        [*command, f"http://127.0.0.1:{node.ports.proxy}/hook"],
        env=environment(),
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=30,
    )


def _archive(url: str, stage: Stage, report: Report) -> None:
    """What is saved is an HTTP archive, as the schemas of har-validator have it."""
    asked = urllib.request.Request(url + "/api/har?reveal=1", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(asked, timeout=30) as answered:
        archive = json.loads(answered.read())
    (stage.directory / "requests.json").write_text(json.dumps(archive))
    install = ["npm", "install", "--silent", "--no-audit", "har-validator@5"]
    subprocess.run(install, cwd=stage.directory, stdout=subprocess.DEVNULL, check=True, timeout=120)
    script = "require('har-validator').har(require('./requests.json'))"
    ran = subprocess.run(
        ["node", "-e", f"{script}.then(() => console.log('valid'), e => console.log(e))"],
        cwd=stage.directory,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    entries = len(archive["log"]["entries"])
    report.check("the archive is valid", ran.stdout.strip() == "valid" and entries > 0, ran.stdout)


def _without_key(shown: Browser, url: str, report: Report) -> None:
    report.check("who comes without the key is asked for it", shown.open(url + "/", "needs its key"), shown.text)
    shown.run("document.getElementById('key').focus()")
    shown.tell("Input.insertText", text="wrong")
    press(shown, "Enter")
    report.check("a wrong one does not do", shown.comes("missing or wrong"), shown.text)
    shown.open(f"{url}/#key={KEY}", "No requests yet")
    bare = shown.run("location.hash") == "" and KEY not in shown.run("location.href")
    report.check(
        "the link opens it, and the key leaves the address", bare and "No requests yet" in shown.text, shown.text
    )
    report.check("no cookie is set", shown.run("document.cookie") == "", "one is")
    report.check("it says that it is live", shown.comes("live"), shown.text)


def _hostile_bodies(shown: Browser, url: str, count: int, report: Report) -> None:
    """Every body, head and target of a stranger is shown, and none of it is markup."""
    wait_until(lambda: shown.run("document.querySelectorAll('.row').length") == count, "the rows")
    ids = shown.run("[...document.querySelectorAll('.row')].map(row => row.id.slice(4))")
    kinds, widths = {}, []
    for id in ids:
        shown.run(f"document.getElementById('row-{id}').click()")
        wait_until(partial(_shows, shown, f"request {id}"), f"request {id}")
        kinds[shown.run("document.getElementById('title').textContent").split(" ")[1]] = shown.run(
            "[...document.querySelectorAll('#response pre, #response img')].map(one => one.tagName).join()"
        )
        widths += _pictures(shown)
    foreign = shown.run(
        "document.querySelectorAll('main script, main svg, main iframe, main img:not([src^=\"blob:\"])').length"
    )
    report.check("hostile bodies run nothing", shown.run("window.pwned === undefined") and foreign == 0, str(foreign))
    report.check(
        "a picture is shown as one, SVG as text", kinds["/png"] == "IMG" and kinds["/svg"] == "PRE", str(kinds)
    )
    report.check("cookies are hidden until they are asked for", "s3cret" not in shown.text, shown.text)
    pictures = shown.run("[...document.querySelectorAll('img')].map(one => one.src)")
    report.check("no picture is from elsewhere", all(one.startswith("blob:") for one in pictures), str(pictures))


def _pictures(shown: Browser) -> list[int]:
    """How wide the pictures that are shown are, once they are there."""
    width = "one => one.decode().then(() => one.naturalWidth, () => 0)"
    widths: list[int] = shown.run(f"Promise.all([...document.querySelectorAll('#response img')].map({width}))")
    return widths


def _shows(shown: Browser, text: str) -> bool:
    return text in shown.text


def press(shown: Browser, key: str, modifiers: int = 0) -> None:
    """Press a key, as a person does."""
    codes = {"Enter": 13, "Tab": 9, "ArrowDown": 40, "ArrowUp": 38, "Home": 36, "Escape": 27, " ": 32, "/": 191}
    text = {"Enter": "\r", " ": " ", "/": "/"}.get(key, "")
    common = {"key": key, "windowsVirtualKeyCode": codes[key], "modifiers": modifiers}
    kind = "keyDown" if text and not modifiers else "rawKeyDown"
    shown.tell("Input.dispatchKeyEvent", type=kind, **common, **({"text": text} if kind == "keyDown" else {}))
    shown.tell("Input.dispatchKeyEvent", type="keyUp", **common)


def _tab_to(shown: Browser, id: str) -> bool:
    """Press Tab until an element has the focus; False when it never does."""
    for _ in range(60):
        if shown.run("document.activeElement.id") == id:
            return True
        press(shown, "Tab")
    return False


def _by_keyboard(shown: Browser, url: str, service: Service, report: Report) -> None:
    """Find the failed hook, see its secret, copy it, send it again, edit it, and clear the list, without a mouse."""
    shown.open(url + "/", "/hook")
    press(shown, "/")
    shown.tell("Input.insertText", text="status:nonsense")
    report.check("a filter that means nothing says why", shown.comes("takes 404, 4xx or 400-499"), shown.text)
    shown.run("document.getElementById('filter').select()")
    shown.tell("Input.insertText", text="status:5xx method:POST path:/hook")
    wait_until(lambda: shown.run("document.querySelectorAll('.row').length") == 1, "the filter")
    reached = _tab_to(shown, "rows")
    press(shown, "ArrowDown")
    press(shown, "Enter")
    report.check("the failed hook is found", reached and shown.comes("nobody is home"), shown.text)
    report.check("its authorization is hidden", "s3cret" not in shown.text, shown.text)
    shown.run("document.querySelector('#request td button').focus()")
    press(shown, "Enter")
    report.check("until it is asked for", shown.comes("s3cret"), shown.text)
    before = len(service.requests)
    _tab_to(shown, "curl")
    press(shown, "Enter")
    report.check(
        "it is copied", shown.comes("Copied") or shown.run("document.getElementById('copied').open"), shown.text
    )
    line = shown.run("navigator.clipboard.readText()") or shown.run("document.getElementById('command').value")
    hidden = "s3cret" not in line and line.startswith("curl ") and "/hook" in line
    report.check("as curl, without what is hidden", hidden, line)
    if shown.run("document.getElementById('copied').open"):
        press(shown, "Escape")
    _tab_to(shown, "replay")
    press(shown, "Enter")
    wait_until(lambda: len(service.requests) == before + 1, "the replay")
    same = (
        service.requests[-1].raw_head == service.requests[-2].raw_head and service.requests[-1].body == b'{"paid": 12}'
    )
    report.check("it is sent again as it was", same, str(service.requests[-2:]))
    report.check("and shown as a replay", shown.comes("replay of"), shown.text)
    _tab_to(shown, "edit")
    press(shown, "Enter")
    _tab_to(shown, "edit-body")
    shown.run("document.getElementById('edit-body').select()")
    shown.tell("Input.insertText", text='{"paid": 13}')
    press(shown, "Enter", 2)
    wait_until(lambda: len(service.requests) == before + 2, "the edited one")
    edited = service.requests[-1]
    kept = edited.body == b'{"paid": 13}' and edited.get("authorization") == b"Bearer_s3cret"
    report.check("edited, with the authorization that was hidden", kept, str(edited))
    wait_until(lambda: not shown.run("document.getElementById('editor').open"), "the dialog to close")
    _tab_to(shown, "clear")
    press(shown, "Enter")
    report.check("the list is cleared", shown.comes("No request matches"), shown.text)


def _attacked(shown: Browser, attacker: str, url: str, service: Service, report: Report) -> None:
    """A page of somebody else, in the browser of the developer, even one who knows the key."""
    shown.open(attacker + "/attack", "attacking page")
    before = len(service.requests)
    said = shown.run(_TRIES.replace("URL", url).replace("KEY", KEY))
    fine = isinstance(said, dict) and all(what in ("refused", "opaque") for what in said.values())
    report.check(f"{attacker} reads nothing", fine and said["list with key"] == "refused", str(said))
    sent = [request.raw_head for request in service.requests[before:]]
    report.check(f"{attacker} sends nothing", not sent, str(sent))


def _for_everybody(shown: Browser, url: str, stage: Stage, report: Report) -> None:
    """In light and dark, wide and narrow: nothing that axe-core finds, nothing that sticks out."""
    script = axe.fetched(stage.directory)
    shown.tell("Page.enable")
    shown.tell("Page.setBypassCSP", enabled=True)
    for scheme in ("light", "dark"):
        shown.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        for width in (1400, 360):
            shown.tell(
                "Emulation.setDeviceMetricsOverride", width=width, height=720, deviceScaleFactor=1, mobile=width < 700
            )
            name = f"{scheme}, {width} px"
            shown.open(url + "/", "live")
            found = axe.violations(shown, script)
            report.check(f"{name}: axe-core finds nothing in the list", found == [], str(found))
            shown.run("document.querySelector('.row').click()")
            shown.comes("Headers")
            found = axe.violations(shown, script)
            report.check(f"{name}: nor in a request", found == [], str(found))
            shown.run("document.getElementById('edit').click()")
            found = axe.violations(shown, script)
            report.check(f"{name}: nor in the editor", found == [], str(found))
            wide = shown.run("document.documentElement.scrollWidth")
            report.check(f"{name}: nothing sticks out", wide == width, str(wide))
            picture = base64.b64decode(shown.tell("Page.captureScreenshot", format="png")["data"])
            (stage.directory / f"inspector-{scheme}-{width}.png").write_bytes(picture)
            shown.run("location = 'about:blank'")
