"""Finds the private names that our code uses of other packages, and of other modules of ours.

Python promises no name with a leading underscore. A package that describes few of its names, as
uvicorn does, promises even less: `Unpromised` says what of it counts beside the underscore.

The scan reads syntax, and looks foreign classes up where they are installed. It finds

- imports of private modules and names;
- `self._x`, `super()._x` and definitions of `_x` where a base class in another module has `_x`;
- `anything._x` and `getattr(anything, "_x")`, unless the module itself defines `_x`.

It does not follow types: `connection._writer` has no known owner, and stands for itself.
"""

import ast
import functools
import importlib
import inspect
import re
import sys
from asyncio import Protocol
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

_PRIVATE = re.compile(r"_[A-Za-z0-9]\w*")
_DOCUMENTED = {"_asdict", "_exit", "_field_defaults", "_fields", "_make", "_replace"}
"""Python's own pages describe these, of named tuples and of os."""
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_BY_TEXT = {"getattr", "setattr", "delattr", "hasattr"}


@dataclass(frozen=True, order=True)
class Use:
    """A name that a file uses of a package, or of another module of ours."""

    file: str
    name: str
    owner: str | None
    """A distribution, `python`, a module of ours; None where syntax does not tell."""


@dataclass(frozen=True)
class Unpromised:
    """What a package does not promise beside its private names."""

    modules: tuple[str, ...]
    """An import from these counts."""
    objects: tuple[str, ...]
    """Classes; each attribute named as one of theirs counts in a file that uses the package."""
    documented: frozenset[str]
    """Names that the package's pages describe: these do not count."""


@dataclass
class _Class:
    node: ast.ClassDef
    source: "_Source"
    enclosing: ast.AST
    defined: set[str] = field(default_factory=set)
    """Names that the class body or a `self.x = ...` of its methods makes."""


class _Source:
    def __init__(self, *, path: Path, file: str, module: str) -> None:
        self.file, self.module = file, module
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.imports = dict(_imports(self.tree))
        self.all_classes = list(self._classes(self.tree, self.tree))
        self.classes = {found.node.name: found for found in self.all_classes}
        self.defined = {name for it in self.all_classes for name in it.defined}
        for node in ast.walk(self.tree):
            if isinstance(node, (*_FUNCTION, ast.ClassDef)):
                self.defined.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.defined.add(node.id)

    def _classes(self, node: ast.AST, enclosing: ast.AST) -> Iterator[_Class]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield _Class(child, self, enclosing, set(_defined(child)))
            inner = child if isinstance(child, _FUNCTION) else enclosing
            yield from self._classes(child, inner)

    def dotted(self, node: ast.AST, *, within: ast.AST | None = None) -> str | None:
        """What an expression names, as far as imports, classes and `type[X]` of arguments tell."""
        if isinstance(node, ast.Subscript):
            return self.dotted(node.value, within=within)
        if isinstance(node, ast.Attribute):
            left = self.dotted(node.value, within=within)
            return None if left is None else f"{left}.{node.attr}"
        if not isinstance(node, ast.Name):
            return None
        if isinstance(within, _FUNCTION):
            for argument in within.args.args + within.args.kwonlyargs:
                if argument.arg == node.id and isinstance(argument.annotation, ast.Subscript):
                    return self.dotted(argument.annotation.slice)
        if node.id in self.classes:
            return f"{self.module}.{node.id}"
        return self.imports.get(node.id)


class Scan:
    """The private names that the modules under some folders use."""

    def __init__(
        self, root: Path, folders: Mapping[str, str], unpromised: Mapping[str, Unpromised]
    ) -> None:
        """`folders` maps each folder to scan to the package, or packages, that it is."""
        self._unpromised = unpromised
        self._sources: dict[str, _Source] = {}
        for folder, package in folders.items():
            for path in sorted((root / folder).rglob("*.py")):
                parts = path.relative_to(root / folder).with_suffix("").parts
                module = ".".join(it for it in (package, *parts) if it and it != "__init__")
                file = str(path.relative_to(root))
                self._sources[module] = _Source(path=path, file=file, module=module)

    def uses(self) -> set[Use]:
        """Every use, once a file."""
        return {use for source in self._sources.values() for use in self._of(source)}

    def _of(self, source: _Source) -> Iterator[Use]:
        yield from self._imported(source)
        owners: set[str] = set()
        for it in source.all_classes:
            ours, foreign = self._bases(it)
            owners |= {_distribution(base.__module__) for base in foreign}
            for name in _names_of_self(it.node):
                yield from self._inherited(it, name, ours, foreign)
        yield from self._loose(source)
        owners |= {_distribution(it) for it in source.imports.values()}
        for owner in owners & self._unpromised.keys():
            names = _names_of_objects(self._unpromised[owner].objects)
            names -= self._unpromised[owner].documented
            for node in ast.walk(source.tree):
                if not isinstance(node, ast.Attribute) or _is_self(node):
                    continue
                dotted = source.dotted(node) or ""
                if node.attr in names or dotted.startswith(self._unpromised[owner].modules):
                    yield Use(source.file, node.attr, owner)

    def _imported(self, source: _Source) -> Iterator[Use]:
        for dotted in source.imports.values():
            owner = self._owner(dotted)
            if owner == source.module or dotted.startswith("__future__"):
                continue
            for part in dotted.split("."):
                if _is_private(part):
                    yield Use(source.file, part, owner)
            of = self._unpromised.get(owner)
            if of is not None and dotted.startswith(of.modules):
                yield Use(source.file, dotted.rpartition(".")[2], owner)

    def _loose(self, source: _Source) -> Iterator[Use]:
        """Uses on anything but self."""
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute) and not _is_self(node):
                name, of = node.attr, node.value
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in _BY_TEXT
                and isinstance(text := node.args[1], ast.Constant)
            ):
                name, of = str(text.value), node.args[0]
            else:
                continue
            if not _is_private(name):
                continue
            dotted = source.dotted(of)
            if dotted is not None and self._owner(dotted) != source.module:
                yield Use(source.file, name, self._owner(dotted))
            elif name not in source.defined:
                yield Use(source.file, name, None)

    def _inherited(
        self, it: _Class, name: str, ours: list[_Class], foreign: list[type]
    ) -> Iterator[Use]:
        for base in foreign:
            owner = _distribution(base.__module__)
            counts = _is_private(name) or self._is_unpromised(owner, name)
            if counts and name in _names_of(base):
                yield Use(it.source.file, name, owner)
                return
        if _is_private(name):
            for parent in ours:
                if name in parent.defined and parent.source is not it.source:
                    yield Use(it.source.file, name, parent.source.module)
                    return

    def _is_unpromised(self, owner: str, name: str) -> bool:
        of = self._unpromised.get(owner)
        if of is None or name.startswith("__"):
            return False
        # What asyncio asks of a protocol is asyncio's.
        return name not in of.documented and not hasattr(Protocol, name)

    def _bases(self, it: _Class) -> tuple[list[_Class], list[type]]:
        """All bases in our sources, nearest first, and all others."""
        ours: list[_Class] = []
        foreign: list[type] = []
        for node in it.node.bases:
            dotted = it.source.dotted(node, within=it.enclosing)
            if dotted is None:
                continue
            found = self._class(dotted)
            if found is not None:
                above, others = self._bases(found)
                ours += [found, *above]
                foreign += others
            elif self._owner(dotted) not in self._sources:
                made = _object(dotted)
                foreign += inspect.getmro(made)[:-1] if isinstance(made, type) else ()
        return ours, foreign

    def _class(self, dotted: str) -> _Class | None:
        module, _, name = dotted.rpartition(".")
        source = self._sources.get(module)
        return None if source is None else source.classes.get(name)

    def _owner(self, dotted: str) -> str:
        parts = dotted.split(".")
        for end in range(len(parts), 0, -1):
            if ".".join(parts[:end]) in self._sources:
                return ".".join(parts[:end])
        return _distribution(dotted)


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for it in node.names:
                # `import a.b` binds a; the whole name is kept, too, for what it says of b.
                yield (it.asname, it.name) if it.asname else (it.name.split(".")[0],) * 2
                yield it.name, it.name
        elif isinstance(node, ast.ImportFrom):
            for it in node.names:
                yield it.asname or it.name, f"{node.module}.{it.name}"


def _defined(node: ast.ClassDef) -> Iterator[str]:
    for child in node.body:
        if isinstance(child, (*_FUNCTION, ast.ClassDef)):
            yield child.name
        elif isinstance(child, ast.Assign):
            yield from (it.id for it in child.targets if isinstance(it, ast.Name))
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            yield child.target.id
    for inner in _walk_own(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
            yield from (inner.attr,) if _is_self(inner) else ()


def _names_of_self(node: ast.ClassDef) -> set[str]:
    """Every name that the class defines, or uses of itself or of super()."""
    used = {it.attr for it in _walk_own(node) if isinstance(it, ast.Attribute) and _is_self(it)}
    return used | set(_defined(node))


def _walk_own(node: ast.AST) -> Iterator[ast.AST]:
    """All that is in a class, without the classes in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef):
            yield child
            yield from _walk_own(child)


def _is_self(node: ast.Attribute) -> bool:
    of = node.value
    if isinstance(of, ast.Call):
        return isinstance(of.func, ast.Name) and of.func.id == "super"
    return isinstance(of, ast.Name) and of.id in ("self", "cls")


def _is_private(name: str) -> bool:
    return _PRIVATE.fullmatch(name) is not None and name not in _DOCUMENTED


@functools.cache
def _names_of(base: type) -> frozenset[str]:
    """What a class has by itself: of its body, and what its methods set on self."""
    # A compiled class has no source: its body is all there is.
    node = _classes_of(base.__module__).get(base.__name__)
    return frozenset({*vars(base), *(_defined(node) if node is not None else ())})


@functools.cache
def _classes_of(module: str) -> dict[str, ast.ClassDef]:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):
        return {}
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


@functools.cache
def _names_of_objects(dotted: tuple[str, ...]) -> frozenset[str]:
    return frozenset(
        name for it in dotted for name in _names_of(_object(it)) if not name.startswith("__")
    )


@functools.cache
def _object(dotted: str) -> Any:
    """The module, class or whatever else has this name where it is installed."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(getattr, parts[end:], found)
    raise LookupError(dotted)


@functools.cache
def _distribution(dotted: str) -> str:
    top = dotted.split(".", maxsplit=1)[0]
    if top in sys.stdlib_module_names:
        return "python"
    return (_distributions().get(top) or [top])[0]


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()
