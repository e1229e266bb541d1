"""Each block of the documentation says who runs it, and what it names is there: options, keys, files, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from pico_twisted.config.agent import AgentConfig
from pico_twisted.config.fields import own_keys
from pico_twisted.config.node import NodeConfig
from pico_twisted.config.structure import structure
from tests.pages.blocks import HOW, PAGES, Block, blocks
from tests.pages.commands import commands, wrong_option
from tools.stage.processes import ROOT

BLOCKS = [block for page in PAGES for block in blocks(page)]
CLASSES: dict[str, type[Any]] = {"node": NodeConfig, "agent": AgentConfig}
OURS = re.compile(r"^(\$ |(picoctl|twistd|pico-node|pico-agent|curl|systemctl|pip|make) )", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_each_block_says_who_runs_it(page: str) -> None:
    """No command stands anywhere of which nobody knows whether it works: it is run by one of the targets that
    tests/pages names, or the page says why not."""
    for block in blocks(page):
        assert block.how in HOW.get(block.language, ()), f"{block.place}: {block.language} {block.how}"
        assert bool(block.why) == (block.how == "shown"), f"{block.place}: `shown: WHY`, and no other has a reason"
        if block.language == "text" and page.startswith("docs/"):
            assert not OURS.search(block.text), f"{block.place} has commands: it is no `text`"


@pytest.mark.parametrize(
    "block", [one for one in BLOCKS if one.language in ("sh", "console")], ids=lambda block: block.place
)
def test_our_commands_have_these_options(block: Block) -> None:
    """Whoever copies a command from a page meets no `No such option`."""
    wrong = [fault for words in commands(block) if (fault := wrong_option(words))]
    assert not wrong, f"{block.place}: {wrong}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_sentences_have_these_options(page: str) -> None:
    """So it is for commands in backticks, as in `picoctl status --admin URL`."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`((?:picoctl|twistd|pico-node|pico-agent) [^`]+)`", text)
    wrong = [fault for span in spans if (fault := wrong_option(span.replace("\\|", "|").replace("'", "").split()))]
    assert wrong == []


@pytest.mark.parametrize(
    "block", [one for one in BLOCKS if one.language == "yaml" and one.how in CLASSES], ids=lambda block: block.place
)
def test_files_have_these_keys(block: Block) -> None:
    """What a page shows of a configuration can be put into a file as it stands."""
    _, faults = structure(yaml.load(block.text, yaml.BaseLoader), CLASSES[block.how])
    # That files are not there, on this machine, is no fault of a page; nor that a fragment lacks other keys.
    wrong = [str(fault) for fault in faults if "No such file" not in str(fault) and "found nothing" not in str(fault)]
    assert not wrong, f"{block.place}: {wrong}"


def keys_of(cls: type[Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of all keys; of those in a list once with the list's name and once without."""
    for key in own_keys(cls):
        name = prefix + key.path[-1]
        yield name
        if key.section is not None:
            yield from keys_of(key.section, name + ".")
        if key.item is not None:
            yield from keys_of(key.item, name + ".")


def test_the_keys_that_pages_name_exist() -> None:
    """A key in backticks, as in `proxy.tls.cert`, is one of a node or of an agent."""
    known = {name for cls in CLASSES.values() for name in keys_of(cls)}
    sections = {name.partition(".")[0] for name in known if "." in name}
    wrong = []
    for page in PAGES:
        if page.startswith("docs/development/") or page == "docs/architecture.md":
            continue  # there `proxy.channel` is a module
        wrong += [
            f"{page}: {named}"
            for named in re.findall(r"`([a-z_]+(?:\.[a-z_0-9]+)+)`", (ROOT / page).read_text(encoding="utf-8"))
            if named.partition(".")[0] in sections and named not in known and not _is_something_else(named)
        ]
    assert wrong == []


def _is_something_else(named: str) -> bool:
    """Whether it is the name of a file, or of a part of the program, as log lines have it."""
    parts = named.split(".")
    return (ROOT / "pico_twisted/net" / "/".join(parts)).with_suffix(".py").exists() or parts[-1] in (
        "yaml",
        "sock",
        "md",
        "pem",
        "log",
    )


LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", [*PAGES, "SECURITY.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    """Every link of a page to another page, to a heading or to a file of the checkout."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target.resolve().relative_to(ROOT).as_posix())):
            broken.append(link)
    assert broken == []


FOLDERS = ("benchmarks", "demo", "docs", "etc", "packaging", "pico_twisted", "tests", "tools")


@pytest.mark.parametrize("page", PAGES)
def test_the_files_and_targets_that_pages_name_exist(page: str) -> None:
    """What stands in backticks as a path of the checkout is there, and so is each target of make."""
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`", text)
    missing = [
        path
        for path in paths
        if not (ROOT / path).exists() and not (ROOT / f"{path}.py").exists() and not list(ROOT.glob(path + ".*"))
    ]
    assert missing == []
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets
