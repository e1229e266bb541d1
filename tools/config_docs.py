"""Writes the reference of all keys and the commented samples from the configuration classes.

Run as `python -m tools.config_docs [DIRECTORY]`, where the directory is that of the project; with
`--check` nothing is written, and the status is 1 when a file is stale. `make config-docs` does the first, a test of
the suite the second.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from pico_twisted.config.agent import AgentConfig
from pico_twisted.config.fields import Key, all_keys, own_keys
from pico_twisted.config.kinds import Many
from pico_twisted.config.node import NodeConfig

_WIDTH = 100
_REFERENCE = "docs/configuration.md"
_NODE_SAMPLE = "etc/pico.yaml"
_AGENT_SAMPLE = "etc/pico-agent.yaml"

# What the sample of the agent shows where a key has no default: an agent needs one listener.
_EXAMPLES = {"endpoint": "my-endpoint", "addr": "localhost:3000"}

_SAMPLE_HEAD = """\
# {title}
#
# Every key is listed with its default, so this file changes nothing, and any key may be left out.
# Start a daemon with this file, or check it:
#
#   twistd -n --pidfile= {command} --config {name}
#   twistd {command} --config {name} --check
"""

_INTRODUCTION = """\
# Configuration

<!-- Generated from the classes in pico_twisted/config by `make config-docs`. Edit those. -->

Each daemon reads one YAML file: `twistd pico --config pico.yaml`, `twistd pico-agent --config pico-agent.yaml`. Both
run without one. Commented samples with every key are [etc/pico.yaml](../etc/pico.yaml) and
[etc/pico-agent.yaml](../etc/pico-agent.yaml).

## Where a value comes from

1. A flag. Every key has one, made from its path with dashes: `proxy.bind_addr` is `--proxy.bind-addr`. To give a list,
   repeat the flag or use commas. A boolean takes a value: `--proxy.access-log=false`. The agent's `listeners` have no
   such flag; `--listen my-endpoint=localhost:3000`, repeated as needed, replaces those in the file. Their other keys
   follow behind blanks: `--listen 'my-endpoint=3000 rewrite_host timeout=5s'`.
2. The file.
3. The default.

`twistd pico --help` and `twistd pico-agent --help` list all flags.

## What values look like

| kind | examples |
| --- | --- |
| duration | `500ms`, `15s`, `1m`, `1m30s`, `1h`: a number always has its unit |
| size | `64KiB`, `16MiB`, `1GiB`; a plain number is bytes |
| address | `8000` (every interface), `":8000"` (the same), `127.0.0.1:8000`, `"[::1]:8000"`; port 0 takes a free port |
| address of a port that speaks HTTP | the same, or `unix:/path` |
| boolean | `true`, `false`; `yes`, `no`, `on`, `off` |
| list | a YAML list, or one string with commas |
| network | `10.0.0.0/8`, `192.0.2.7`, `2001:db8::/32` |

Quote an address that begins with a colon or a bracket. Other strings need no quotes: an endpoint named `no` or `007` is
taken literally. A section whose keys are all commented out counts as absent. Relative file names are relative to the
directory in which the daemon was started.

## Variables

With `--config.expand-env`, `${VAR}` in a value of the file is replaced by that environment variable, and
`${VAR:default}` by the default if the variable is not set. A variable that is set to nothing counts as set. A variable
that is not set and has no default is a fault. `$${` stands for a literal `${`. A variable can only fill in a single
value, whatever characters it holds; key names and comments are left alone. Quote variables inside other braces or
brackets: `{level: "${LEVEL:info}"}`.

## Secrets

For each key that holds a secret, another key names a file that holds it: `token` has `token_file`, and `secrets` has
`secret_files`. Prefer the file: every user of the machine can see the flags of a process. Blanks and line ends around
the secret in a file are ignored. Secrets are never shown in messages or logs.

## When something is wrong

All faults are reported at once on stderr, one line each: the path of the key, where it was set, what was found and what
was expected. The process exits with status 1 before it serves anything.

```console shown: a file with faults
$ twistd -n pico --config pico.yaml --limits.calls=many
pico: proxy.trusted_proxies[1] (pico.yaml:3): found "lb1", expected an IP address or a range such as 10.0.0.0/8 (...)
pico: limits.calls (--limits.calls): found "many", expected a whole number from 1 to 10000000
pico: log.levl (pico.yaml:9): found an unknown key, expected a key such as level
```

Unknown keys and repeated keys are faults too, and so are files that cannot be read or, for certificates and keys, used.
For a file that this process may not read, the message says whose it is. `--check` does only this: it prints
`configuration is valid` and exits with status 0, or reports the faults and exits with status 1. To `--check`, a
certificate that has expired is a fault, and one that expires within two weeks is told as a warning.
"""


def generated_files() -> dict[str, str]:
    """The content of each generated file, by its path in the project."""
    return {
        _REFERENCE: _reference(),
        _NODE_SAMPLE: _sample(NodeConfig, "pico", "A Pico node.", _NODE_SAMPLE),
        _AGENT_SAMPLE: _sample(AgentConfig, "pico-agent", "A Pico agent.", _AGENT_SAMPLE),
    }


def _sample(cls: type[Any], command: str, title: str, name: str) -> str:
    lines = [_SAMPLE_HEAD.format(title=title, command=command, name=name)]
    for key in own_keys(cls):
        lines += [*_sample_key(key, 0), ""]
    return "\n".join(lines).rstrip() + "\n"


def _sample_key(key: Key, depth: int) -> Iterator[str]:
    indent = "  " * depth
    yield from _comment(key.help, indent)
    name = key.path[-1]
    if key.section is not None:
        yield f"{indent}{name}:"
        for index, inner in enumerate(own_keys(key.section, key.path)):
            if index:
                yield ""
            yield from _sample_key(inner, depth + 1)
    elif key.item is not None and "listeners" not in key.path:  # an agent has at least one of these
        yield f"{indent}{name}: []"
    elif key.item is not None:
        yield f"{indent}{name}:"
        for index, inner in enumerate(own_keys(key.item, key.path)):
            lines = list(_sample_key(inner, depth + 2))
            if index == 0:  # the dash stands before the first key of the item, behind its comment
                lines[-1] = f"{indent}  - {lines[-1].lstrip()}"
            else:
                yield ""
            yield from lines
    else:
        yield f"{indent}{name}: {_yaml_text(key)}"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text.replace("`", ""),
        _WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def _yaml_text(key: Key) -> str:
    if key.default is attrs.NOTHING:
        return _EXAMPLES[key.path[-1]]
    if isinstance(key.kind, Many):
        items = [key.kind.item.to_text(item) for item in key.default]
        return items[0] if len(items) == 1 else "[" + ", ".join(items) + "]"
    text = key.default_text
    return f'"{text}"' if text == "" or text.startswith((":", "[")) else text


def _reference() -> str:
    parts = [_INTRODUCTION]
    parts += ["## Keys of a node", "", *_key_tables(NodeConfig), "## Keys of an agent", "", *_key_tables(AgentConfig)]
    return "\n".join(parts).rstrip() + "\n"


def _key_tables(cls: type[Any]) -> Iterator[str]:
    top = [key for key in own_keys(cls) if key.kind is not None]
    listings: dict[type[Any], list[str]] = {}
    for key in all_keys(cls):
        if key.item is not None:
            listings.setdefault(key.item, []).append(f"`{key.dotted}`")
    for key in own_keys(cls):
        if key.section is not None:
            inner = [found for found in all_keys(key.section, key.path) if found.kind is not None]
            yield from _table(f"`{key.dotted}`", key.help, inner)
        for found in (key, *all_keys(key.section, key.path)) if key.section is not None else (key,):
            if found.item is not None and (names := listings.pop(found.item, None)):
                inner = [of_item for of_item in all_keys(found.item) if of_item.kind is not None]
                yield from _table(f"{', '.join(names)}, each", found.help, inner)
    yield from _table("At the top", "", top)


def _table(title: str, help: str, keys: list[Key]) -> Iterator[str]:
    yield f"### {title}"
    yield ""
    if help:
        yield textwrap.fill(help, 120, break_on_hyphens=False)
        yield ""
    yield "| key | kind | default | what it is for |"
    yield "| --- | --- | --- | --- |"
    for key in keys:
        assert key.kind is not None
        kind = " or ".join(f"`{word}`" for word in key.kind.name.split("|")) if "|" in key.kind.name else key.kind.name
        if key.default is attrs.NOTHING:
            default = "must be given"
        else:
            default = f"`{key.default_text}`" if key.default_text else "empty"
        yield f"| `{key.dotted}` | {kind} | {default} | {key.help} |"
    yield ""


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or look whether they are stale. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Write the reference and the samples of the configuration.")
    parser.add_argument("directory", nargs="?", default=".", type=Path, help="directory of the project")
    parser.add_argument("--check", action="store_true", help="write nothing, status 1 when a file is stale")
    options = parser.parse_args(arguments)
    stale = False
    for name, content in generated_files().items():
        path: Path = options.directory / name
        if path.is_file() and path.read_text(encoding="utf-8") == content:
            continue
        stale = True
        if options.check:
            print(f"{name} is stale: run make config-docs", file=sys.stderr)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        print(f"wrote {name}")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
