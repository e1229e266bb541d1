"""The page as people use it: in chromium, by mouse and by keyboard, on large and small screens, light and dark."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.programs.browser import Browser, browser
from tests.programs.page.axe import fetched, violations
from tests.programs.page.cluster import OPERATOR, READER, Cluster, cluster
from tools.stage.ports import HOST
from tools.stage.report import Report
from tools.stage.stage import open_stage
from tools.stage.waiting import wait_until

ID: Final = "request-of-the-page"
VIEWS: Final = (
    "#/",
    "#/node/n1",
    "#/endpoint/shop",
    "#/agent/agent-7f3",
    f"#/request/{ID}",
    "#/events",
    "#/requests",
    "#/revoked",
)
SIZES: Final = ((1280, 900), (360, 740))
SCHEMES: Final = ("light", "dark")
_KEYS: Final = {"Tab": 9, "Enter": 13, "Escape": 27}
_MOST_TABS: Final = 200
_FAULTS: Final = """window.faults = [];
addEventListener("error", event => faults.push(event.message));
addEventListener("unhandledrejection", event => faults.push(String(event.reason)));
addEventListener("securitypolicyviolation", event => faults.push(event.violatedDirective + " " + event.blockedURI));"""
_ELSEWHERE: Final = """performance.getEntriesByType("resource").map(one => one.name)
  .filter(name => !name.startsWith(location.origin + "/"))"""
_TOO_WIDE: Final = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def live_page(directory: Path, report: Report) -> None:
    """All of it, at a cluster that authenticates and at a node that does not."""
    directory.mkdir()
    script = fetched(directory)
    with open_stage(directory) as stage, cluster(stage) as found:
        found.ask("broken", "/lost", request_id=ID)
        with _person(directory / "profile-ann") as ann:
            _log_in(ann, found.url, OPERATOR)
            _sees_the_cluster(ann, found, report)
            _goes_into_details(ann, found, report)
            _on_every_screen(ann, found, script, report)
            _by_keyboard(ann, found, report)
            _without_the_node(ann, found, report)
            _log_out(ann, found, report)
        with _person(directory / "profile-bob") as bob:
            _log_in(bob, found.url, READER)
            bob.open(f"{found.url}#/node/n1", "Running for")
            offered = bob.run("document.querySelectorAll('.detail .buttons button').length")
            report.check("who may only look is offered no change", offered == 0, str(offered))
            _without_scripts(bob, found.url, report)
        with _person(directory / "profile-open") as anybody:
            node = stage.node("n9")
            anybody.open(f"http://{HOST}:{node.ports.admin}/#/node/n9", "Running for")
            text = anybody.text
            report.check("a port that asks nobody says so", "picoctl can" in text and "Cordon" not in text, text[-300:])


@contextmanager
def _person(profile: Path) -> Iterator[Browser]:
    with browser(profile) as shown:
        shown.tell("Page.enable")
        shown.tell("Runtime.enable")
        shown.tell("Page.addScriptToEvaluateOnNewDocument", source=_FAULTS)
        yield shown


def _log_in(shown: Browser, url: str, token: str) -> None:
    shown.open(url, "Log in")
    shown.run(f"document.getElementById('token').value = '{token}'; document.forms[0].requestSubmit()")
    assert shown.comes("Live"), shown.text


def _sees_the_cluster(shown: Browser, found: Cluster, report: Report) -> None:
    parts = ("cluster acme", "3 active", "n1", "n2", "n3", "shop", "blog", "broken", "agent-7f3", "agent-a01")
    report.check("a cluster of three is shown", all(map(shown.comes, parts)), shown.text)
    report.check("nothing is asked of anybody else", shown.run(_ELSEWHERE) == [], str(shown.run(_ELSEWHERE)))
    failed = shown.comes("GET /lost")
    report.check("a request that failed, and where", failed and "at the service" in shown.text, shown.text)
    shown.run("window.marked = true")
    for node in range(3):
        found.ask("blog", node=node)
    report.check("rates move without a reload", _comes_true(shown, "+cell('blog', 3) > 0"), shown.text)
    found.agent("agent-new", 2, "late")
    report.check("an agent that comes is shown", shown.comes("agent-new") and shown.comes("late"), shown.text)
    found.stage.remove(found.agents.pop("agent-new"))
    gone = _comes_true(shown, "!cell('agent-new', 0)")
    report.check("and one that leaves is not", gone and shown.run("marked") is True, shown.text)
    shown.run("filter = document.querySelector('[aria-label=\"Filter endpoints\"]'); filter.value = 'ACME-3'")
    shown.run("filter.dispatchEvent(new Event('input'))")
    rows = shown.run("[...filter.closest('section').querySelectorAll('tbody tr')].map(row => row.cells[0].innerText)")
    report.check("endpoints are filtered", rows == ["acme-3"], str(rows))
    shown.run("filter.value = ''; filter.dispatchEvent(new Event('input'))")
    head = "[...filter.closest('section').querySelectorAll('th button')]"
    shown.run(f"{head}[0].click()")
    first = shown.run("filter.closest('section').querySelector('tbody th').innerText")
    sorts = shown.run("filter.closest('section').querySelector('th').ariaSort")
    report.check("and sorted", (first, sorts) == ("shop", "descending"), f"{first} {sorts}")
    faults = shown.run("faults")
    report.check("no script of the page fails, nor is refused", faults == [], str(faults))


_CELL: Final = """(name, at) => [...document.querySelectorAll("tbody tr")]
  .find(row => row.cells[0].innerText === name)?.cells[at].innerText"""


def _comes_true(shown: Browser, condition: str) -> bool:
    try:
        wait_until(lambda: shown.run(f"(cell => {condition})({_CELL})"), condition, 60)
    except TimeoutError:
        return False
    return True


def _goes_into_details(shown: Browser, found: Cluster, report: Report) -> None:
    def follows(name: str, *shows: str) -> None:
        shown.open(found.url + "#/", name)
        shown.run(f"[...document.querySelectorAll('main a')].find(link => link.innerText === '{name}').click()")
        good = all(map(shown.comes, shows))
        report.check(f"one click on {name}", good, f"wanted {shows}: {shown.text}")

    near = shown.comes("n2 uses 2 of 2 (limits.sessions)")
    report.check("a limit that is near is worth a look", near, shown.text)
    found.ask("broken", "/lost", request_id=ID)  # what has failed since the first time has pushed it out
    follows("n2", "Node n2", "Running for", "Certificates", "Event loop lag", "limits.sessions: 2 of 2")
    follows("shop", "Endpoint shop", "agent-7f3, agent-a01", "At nodes", "slowest first")
    follows("agent-a01", "Agent agent-a01", "Round trip", "Sessions", "serving")
    follows("GET /lost", f"Request {ID}", "service: failed here", "service-unreachable", "agent agent-bad")
    for sought, shows in ((ID, "service: failed here"), ("n3", "Node n3"), ("agent-7f3", "Agent agent-7f3")):
        shown.run(f"document.getElementById('sought').value = '{sought}'")
        shown.run("document.getElementById('find').requestSubmit()")
        report.check(f"{sought} is found", shown.comes(shows), shown.text)
    shown.open(found.url + "#/events", "agent-a01")
    shown.run("window.field = document.querySelector('main input'); field.value = 'agent-a01'")
    shown.run("field.dispatchEvent(new Event('input'))")
    texts = shown.run("[...document.querySelectorAll('tbody tr')].map(row => row.innerText)")
    report.check("events are filtered", bool(texts) and all("agent-a01" in text for text in texts), str(texts))
    shown.open(found.url + "#/node/nothing", "is not known here now")


def _on_every_screen(shown: Browser, found: Cluster, script: str, report: Report) -> None:
    for view in VIEWS:
        shown.tell("Page.setBypassCSP", enabled=True)
        shown.tell("Page.navigate", url="about:blank")
        shown.open(found.url + view, "Live")
        shown.comes("Told by node")
        for width, height in SIZES:
            shown.tell(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=height,
                deviceScaleFactor=1,
                mobile=width < 500,
            )
            too_wide = shown.run(_TOO_WIDE)
            report.check(f"{view} fits into {width} px", too_wide == 0, str(too_wide))
            for scheme in SCHEMES:
                _wears(shown, ("prefers-color-scheme", scheme))
                wrong = violations(shown, script)
                report.check(f"{view} at {width} px, {scheme}: axe-core", wrong == [], str(wrong))
    _wears(shown, ("forced-colors", "active"))
    wrong = violations(shown, script)
    report.check("with the reader's own colours: axe-core", wrong == [], str(wrong))
    _wears(shown)
    shown.tell("Emulation.clearDeviceMetricsOverride")
    shown.tell("Page.setBypassCSP", enabled=False)


def _wears(shown: Browser, *features: tuple[str, str]) -> None:
    shown.tell("Emulation.setEmulatedMedia", features=[{"name": name, "value": value} for name, value in features])


# By keyboard


def _press(shown: Browser, key: str) -> None:
    code = _KEYS[key]
    for kind in ("keyDown", "keyUp"):
        text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
        shown.tell("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)


def _tab_to(shown: Browser, words: str) -> bool:
    """Go on until something is focused that says this, and is seen to be."""
    for _ in range(_MOST_TABS):
        _press(shown, "Tab")
        focused = "document.activeElement.innerText || document.activeElement.getAttribute('aria-label') || ''"
        if shown.run(focused).strip() == words:
            return bool(shown.run("getComputedStyle(document.activeElement).outlineStyle !== 'none'"))
    return False


def _by_keyboard(shown: Browser, found: Cluster, report: Report) -> None:
    shown.tell("Page.navigate", url="about:blank")
    shown.open(found.url + "#/", "Worth a look")
    _press(shown, "Tab")
    skips = shown.run("document.activeElement.innerText")
    _press(shown, "Enter")
    inside = shown.run("document.activeElement.id")
    report.check("keyboard: the content is one key away", (skips, inside) == ("Skip to the content", "main"), inside)
    report.check("keyboard: to a node", _tab_to(shown, "n2"), shown.text)
    _press(shown, "Enter")
    report.check("keyboard: its view has the focus", shown.comes("Node n2") and _focused(shown, "main"), shown.text)

    def changes(name: str, *shows: str) -> None:
        there = _tab_to(shown, name)
        _press(shown, "Enter")
        asked = shown.run("document.getElementById('ask').open") is True
        _press(shown, "Escape")
        report.check(f"keyboard: {name} asks first", there and asked and _focused_text(shown) == name, shown.text)
        _press(shown, "Enter")
        reached = _tab_to(shown, name)
        _press(shown, "Enter")
        good = all(map(shown.comes, shows))
        report.check(f"keyboard: {name}", reached and good, f"wanted {shows}: {shown.text}")
        shown.run("document.querySelector('#told button')?.click(); document.activeElement.blur()")

    changes("Cordon n2", "n2 is cordoned")
    changes("Uncordon n2", "n2 is open")
    _comes_true(shown, "document.querySelector('.facts dd').innerText === 'active'")
    changes("Drain n2", "n2 is drained")
    changes("Uncordon n2", "n2 is open")
    _opens(shown, found, "#/node/n1", "Running for")
    changes("Reload n1", "nothing has changed")
    _opens(shown, found, "#/agent/agent-7f3", "Sessions")
    changes("Kick agent-7f3", "ended")
    report.check("it came back", _comes_true(shown, "!!cell('shop', 0)"), shown.text)
    changes("Revoke agent-7f3", "ended", "is not known here now")
    _opens(shown, found, "#/revoked", "agent-7f3")
    changes("Let agent-7f3 in again", "done")
    _opens(shown, found, "#/agent/agent-7f3", "Round trip")
    report.check("and it is back", _comes_true(shown, "!!cell('shop', 0)"), shown.text)
    made = [
        record["message"]
        for node in found.nodes
        for record in node.records
        if record.get("message", "").startswith("ann asked for POST")
    ]
    report.check("each change is in the log, by whom", len(made) == 8, str(made))


def _opens(shown: Browser, found: Cluster, view: str, shows: str) -> None:
    shown.run("document.activeElement.blur()")
    shown.open(found.url + view, shows)


def _focused(shown: Browser, id: str) -> bool:
    return bool(shown.run(f"document.activeElement.id === '{id}'"))


def _focused_text(shown: Browser) -> str:
    return str(shown.run("document.activeElement.innerText"))


# When the stream ends


def _without_the_node(shown: Browser, found: Cluster, report: Report) -> None:
    _opens(shown, found, "#/", "Worth a look")
    last = found.nodes[2]
    last.kill()
    report.check("a node that dies is told of", _waits(lambda: "n3 cannot be reached" in shown.text), shown.text)
    shown.run("document.getElementById('pause').click()")
    report.check("the page can be paused", shown.comes("Paused"), shown.text)
    shown.run("document.getElementById('pause').click()")
    report.check("and goes on", shown.comes("Live"), shown.text)


def _waits(true: Callable[[], bool]) -> bool:
    try:
        wait_until(true, "the page to say so", 40)
    except TimeoutError:
        return False
    return True


def _log_out(shown: Browser, found: Cluster, report: Report) -> None:
    began = time.monotonic()
    shown.run("fetch('logout', {method: 'POST', redirect: 'manual'})")
    ended = shown.comes("Ended: you are no longer logged in")
    report.check("with the login the stream ends", ended, f"after {time.monotonic() - began:.1f} s: {shown.text}")


def _without_scripts(shown: Browser, url: str, report: Report) -> None:
    shown.tell("Emulation.setScriptExecutionDisabled", value=True)
    shown.tell("Page.navigate", url="about:blank")
    shown.tell("Page.navigate", url=url)
    tree = ""
    for _ in range(50):
        nodes = shown.tell("Accessibility.getFullAXTree").get("nodes", [])
        tree = " ".join(str(node.get("name", {}).get("value", "")) for node in nodes)
        if "needs scripts" in tree:
            break
        time.sleep(0.1)
    report.check("without scripts it says what to do", "picoctl status" in tree, tree[:400])
    shown.tell("Emulation.setScriptExecutionDisabled", value=False)
