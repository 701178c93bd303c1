"""Words of the product's sources: literals, read without importing a module of the product.

A rename of a module, class or function changes nothing here; a rename of a word that users,
Kubernetes or Prometheus see does.
"""

import ast
import functools
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
_OF_TYPES = ("TypeVar", "cast")


class Module(NamedTuple):
    """A module of the product."""

    name: str
    tree: ast.Module


class Call(NamedTuple):
    """A call in the sources: the last word of what is called, and the module that calls it."""

    name: str
    node: ast.Call
    module: str


@functools.cache
def modules() -> tuple[Module, ...]:
    """Every module of the packages that the wheel has."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    files = sorted(file for it in packages for file in (ROOT / it).rglob("*.py"))
    return tuple(
        Module(file.stem, ast.parse(file.read_text(encoding="utf-8"), str(file))) for file in files
    )


@functools.cache
def literals() -> frozenset[str]:
    """Every whole string literal but docstrings, annotations and names of our own."""
    return frozenset(text for module in modules() for text in _literals(module.tree))


def _literals(tree: ast.Module) -> Iterator[str]:
    skipped = {id(it) for node in ast.walk(tree) for it in _no_words(node)}
    for node in ast.walk(tree):
        if id(node) in skipped or not isinstance(node, ast.Constant):
            continue
        if isinstance(node.value, str):
            yield node.value


def _no_words(node: ast.AST) -> Iterator[ast.AST]:
    """What stands below a node and is a docstring, a part of a text, or names of our own."""
    if isinstance(node, ast.Expr):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield from node.values
    elif isinstance(node, ast.Assign) and any(map(_is_dunder, node.targets)):
        yield from ast.walk(node.value)  # __all__ and __slots__
    elif isinstance(node, ast.Call) and _last_word(node.func) in _OF_TYPES:
        yield from node.args[:1]
    for field in ("annotation", "returns"):
        annotation = getattr(node, field, None)
        if isinstance(annotation, ast.AST):
            yield from ast.walk(annotation)


def _is_dunder(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id.startswith("__")


@functools.cache
def calls() -> tuple[Call, ...]:
    """Every call of a name or an attribute."""
    return tuple(
        Call(name, node, module.name)
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and (name := _last_word(node.func))
    )


def argument(call: Call, place: int | str) -> ast.expr | None:
    """The argument at this position, or of this keyword; None where the call has none."""
    if isinstance(place, str):
        return next((it.value for it in call.node.keywords if it.arg == place), None)
    found = call.node.args
    if len(found) > place and not any(isinstance(it, ast.Starred) for it in found[: place + 1]):
        return found[place]
    return None


def values(node: ast.expr | None, *, module: str) -> frozenset[Any]:
    """What an expression can be, as far as its own words and module constants say it."""
    if isinstance(node, ast.Constant):
        return frozenset({node.value})
    if isinstance(node, ast.IfExp):
        return values(node.body, module=module) | values(node.orelse, module=module)
    if isinstance(node, ast.BoolOp):
        return frozenset().union(*(values(it, module=module) for it in node.values))
    if isinstance(node, ast.Name):
        return _constant(node.id, module=module)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return _constant(node.attr, module=node.value.id)
    return frozenset()


def _constant(name: str, *, module: str) -> frozenset[Any]:
    """The value of a constant: of the module of this name, else of any that is alone in it."""
    if not name.isupper():
        return frozenset()
    of_module = {value for (at, word), value in _constants() if at == module and word == name}
    anywhere = {value for (_, word), value in _constants() if word == name}
    return frozenset(of_module or anywhere)


@functools.cache
def _constants() -> frozenset[tuple[tuple[str, str], Any]]:
    found = set()
    for module in modules():
        for node in module.tree.body:
            target: ast.expr | None = node.target if isinstance(node, ast.AnnAssign) else None
            if isinstance(node, ast.Assign):
                target = node.targets[0]
            written = getattr(node, "value", None)
            if isinstance(target, ast.Name) and isinstance(written, ast.Constant):
                found.add(((module.name, target.id), written.value))
    return frozenset(found)


def _last_word(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def defaults(parameter: str) -> frozenset[str]:
    """The texts that a parameter of this name has where a caller says nothing."""
    found = set()
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                named = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                for argument_, default in named:
                    if argument_.arg == parameter and isinstance(default, ast.Constant):
                        found.add(default.value)
    return frozenset(it for it in found if isinstance(it, str))
