"""A YAML file as plain mappings, lists and texts, with the line of every value.

What is needed. A fault is told with its file and line; two equal keys in one mapping are a fault, though YAML
libraries keep the last in silence; a variable of the environment may stand for a value without being able to change
what the rest of the file means; an endpoint called `no`, `007` or `1:30` is that text and not a boolean or a number.

What was chosen. PyYAML's safe loader reads the file as far as its tree of nodes, and this module makes the values:
mappings, lists, None, and else always text, which the kinds read in the same way as they read a flag. Variables
are put into single texts after the tree stands. Rejected: `yaml.safe_load` as a whole (no lines, no duplicates, YAML
1.1 booleans and base-60 numbers) and expanding variables in the file's text (a `#` in a secret would cut it short).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import attrs
import yaml

from pico_twisted.config.faults import Fault

MAX_VALUES = 100_000  # far beyond any real file; aliases within aliases could go on for ever

_PLAIN_TAGS = frozenset(
    "tag:yaml.org,2002:" + name
    for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge", "map", "seq")
)
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_UNFIT = object()  # stands for a value that has a fault
_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}|\$\{")

Expand = Callable[[str, str], str]


@attrs.frozen(kw_only=True)
class Document:
    """What a file says.

    Attributes:
        data: its mapping; values are mappings, lists, texts and None.
        lines: the line of each value, by its path; the first line is 1.
        faults: what could not be read. A value with a fault is left out of `data`.
        readable: whether the file is YAML with a mapping at the top.
    """

    data: dict[str, Any]
    lines: Mapping[str, int]
    faults: tuple[Fault, ...]
    readable: bool = True


def _without_words(match: re.Match[str]) -> str:
    """A quoted piece of a parser's message: marks and kinds of tokens stay, words of the file go."""
    quoted = match[1] or match[2] or ""
    return match[0] if len(quoted) < 2 or quoted.startswith(("<", "\\")) else "a word"


def child(path: str, name: str | int) -> str:
    """The path of a key in a mapping, or of an item in a list."""
    if isinstance(name, int):
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else name


def expand(text: str, environ: Mapping[str, str]) -> str:
    """`${VAR}` and `${VAR:default}` replaced by the environment's values; `$${` stands for a plain `${`.

    Raises:
        LookupError: a variable is not set and has no default. Its argument is the name.
        ValueError: a `${` begins no such reference.
    """

    def value(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        if match[1] is None:
            raise ValueError("malformed reference")
        if match[1] in environ:
            return environ[match[1]]
        if match[2] is None:
            raise LookupError(match[1])
        return match[2]

    return _VARIABLE.sub(value, text)


def parse_document(text: str | bytes, *, file_name: str, environ: Mapping[str, str] | None = None) -> Document:
    """Read a file's text.

    Args:
        text: the file's content.
        file_name: how messages name the file.
        environ: the variables for `${VAR}`; None leaves such texts as they are.
    """
    return _Reader(file_name, environ).read(text)


class _Reader:
    def __init__(self, file_name: str, environ: Mapping[str, str] | None) -> None:
        self.file_name = file_name
        self.environ = environ
        self.values = 0
        self.lines: dict[str, int] = {}
        self.faults: list[Fault] = []

    def read(self, text: str | bytes) -> Document:
        try:
            loader = yaml.SafeLoader(text)
            try:
                root = loader.get_single_node()
                data = {} if root is None else self._value(loader, root, "")
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:
            problem = ", ".join(text for text in (error.context, error.problem) if text)
            return self._unreadable(problem, error.problem_mark or error.context_mark)
        except yaml.reader.ReaderError as error:
            return self._unreadable(f"{error.reason} (character {error.position + 1})", None)
        except RecursionError:
            return self._unreadable("lists or mappings nested without end", None)
        if data is None:
            data = {}
        if not isinstance(data, dict):
            if data is not _UNFIT:
                what = "a list" if isinstance(data, list) else "a single value"
                self._fault("", what, "a mapping of keys at the top", self.lines[""])
            return Document(data={}, lines={}, faults=tuple(self.faults), readable=False)
        return Document(data=data, lines=self.lines, faults=tuple(self.faults))

    def _unreadable(self, problem: str, mark: yaml.Mark | None) -> Document:
        # What the parser quotes may be a piece of a secret: only marks and single characters are passed on.
        problem = " ".join(_QUOTED.sub(_without_words, problem).split())
        where = f"{self.file_name}:{mark.line + 1}:{mark.column + 1}" if mark is not None else self.file_name
        fault = Fault(path="file", found=f"what is not YAML: {problem}", expected="a YAML file", where=where)
        return Document(data={}, lines={}, faults=(fault,), readable=False)

    def _fault(self, path: str, found: str, expected: str, line: int) -> None:
        where = f"{self.file_name}:{line}"
        self.faults.append(Fault(path=path or "file", found=found, expected=expected, where=where))

    def _value(self, loader: yaml.SafeLoader, node: yaml.Node, path: str) -> Any:
        line = node.start_mark.line + 1
        self.lines[path] = line
        self.values += 1
        if self.values > MAX_VALUES:
            raise RecursionError("too many values")
        if node.tag not in _PLAIN_TAGS:
            self._fault(path, "a YAML tag", "a plain value", line)
            return _UNFIT
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path)
        if isinstance(node, yaml.SequenceNode):
            items = [self._value(loader, item, child(path, index)) for index, item in enumerate(node.value)]
            return _UNFIT if any(item is _UNFIT for item in items) else items
        if node.tag == _NULL:
            return None
        return self._text(cast(str, node.value), path, line)

    def _mapping(self, loader: yaml.SafeLoader, node: yaml.MappingNode, path: str) -> dict[str, Any]:
        first_lines: dict[str, int] = {}
        repeated: set[str] = set()
        for name_node, _ in node.value:
            line = name_node.start_mark.line + 1
            if name_node.tag == _MERGE or not isinstance(name_node, yaml.ScalarNode):
                continue
            name = str(name_node.value)
            if name in first_lines:
                repeated.add(name)
                self._fault(
                    child(path, name), f"the key a second time (first in line {first_lines[name]})", "it once", line
                )
            first_lines.setdefault(name, line)
        loader.flatten_mapping(node)
        data: dict[str, Any] = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, yaml.ScalarNode):
                self._fault(path, "a key that is no text", "names as keys", name_node.start_mark.line + 1)
                continue
            name = str(name_node.value)
            value = self._value(loader, value_node, child(path, name))
            self.lines[child(path, name)] = name_node.start_mark.line + 1
            if name not in repeated and value is not _UNFIT:
                data[name] = value
        return data

    def _text(self, text: str, path: str, line: int) -> Any:
        if self.environ is None or "${" not in text:
            return text
        try:
            return expand(text, self.environ)
        except LookupError as error:
            name = error.args[0]
            self._fault(path, f"${{{name}}}, which is not set", f"a variable that is set, or ${{{name}:default}}", line)
        except ValueError:
            self._fault(path, "a malformed ${...}", "${VAR} or ${VAR:default} ($${ is a plain ${)", line)
        return _UNFIT
