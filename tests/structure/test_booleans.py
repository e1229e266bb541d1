"""A state has a name: no class keeps it in a handful of booleans."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.structure.source import modules

MOST = 3
"""Boolean attributes of one class. More of them are a state machine that nobody has written down: an Enum, a transition
table, or a question to the one who owns the fact."""

_ANSWERS = {"all", "any", "bool", "callable", "hasattr", "isinstance", "issubclass"}


def boolean_attributes(cls: ast.ClassDef) -> set[str]:
    """The attributes of a class that hold a bool: by their annotation, or by what is assigned to them."""
    found: set[str] = set()
    for statement in cls.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if _says_bool(statement.annotation):
                found.add(statement.target.id)
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = [*statement.args.posonlyargs, *statement.args.args, *statement.args.kwonlyargs]
            booleans = {one.arg for one in arguments if one.annotation is not None and _says_bool(one.annotation)}
            found |= set(_assigned(statement, booleans))
    return found


def _says_bool(annotation: ast.expr) -> bool:
    return ast.unparse(annotation).strip("'\"") in ("bool", "bool | None", "Final[bool]")


def _assigned(function: ast.AST, booleans: set[str]) -> Iterator[str]:
    """Names of attributes of `self` that a function assigns a bool to."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _pairs(target, node.value, booleans)
        elif isinstance(node, ast.AnnAssign) and _says_bool(node.annotation):
            yield from _name_of(node.target)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield from _pairs(node.target, node.value, booleans)


def _pairs(target: ast.expr, value: ast.expr, booleans: set[str]) -> Iterator[str]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, other in zip(target.elts, value.elts, strict=False):
            yield from _pairs(one, other, booleans)
    elif _is_bool(value, booleans):
        yield from _name_of(target)


def _name_of(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
        yield target.attr


def _is_bool(value: ast.expr, booleans: set[str]) -> bool:
    match value:
        case ast.Constant(value=bool()) | ast.Compare() | ast.UnaryOp(op=ast.Not()):
            return True
        case ast.Name(id=name):
            return name in booleans
        case ast.Call(func=ast.Name(id=name)):
            return name in _ANSWERS
        case ast.BoolOp(values=values):
            return all(_is_bool(one, booleans) for one in values)
        case ast.IfExp(body=body, orelse=orelse):
            return _is_bool(body, booleans) and _is_bool(orelse, booleans)
    return False


def test_no_class_has_more_than_three_booleans() -> None:
    """What a class goes through is an Enum or a table that a reader finds; a fact has one owner, and others ask it."""
    over = [
        f"{module.place}:{cls.lineno} {cls.name} has {len(found)}: {', '.join(sorted(found))}"
        for module in modules().values()
        for cls in ast.walk(module.tree)
        if isinstance(cls, ast.ClassDef) and len(found := boolean_attributes(cls)) > MOST
    ]
    assert not over, "\n".join([f"more than {MOST} boolean attributes; name the states instead:", *over])


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n x: bool",
        "class A:\n x: bool | None = None",
        "class A:\n def f(self): self.x = False",
        "class A:\n def f(self): self.x = not self.y",
        "class A:\n def f(self, y): self.x = y > 1",
        "class A:\n def f(self, y: bool): self.x = y",
        "class A:\n def f(self, *, y: bool): self.x: bool = self.z()",
        "class A:\n def f(self): self.z, self.x = None, True",
        "class A:\n def f(self, y): self.x = bool(y) and y is not None",
        "class A:\n def f(self, y): self.x = True if y else False",
    ],
)
def test_a_boolean_is_seen(source: str) -> None:
    """However a bool comes to be an attribute, it counts."""
    (cls,) = ast.parse(source).body
    assert isinstance(cls, ast.ClassDef)
    assert boolean_attributes(cls) == {"x"}
