"""Counts the names in our code that have one of our own words where the field has another.

`python -m tests.parts.house_words` lowers the figures of tests/unit/house_words.toml to what the
code has; it raises none.

A name counts where it is given: a module, class, function, argument, variable or attribute. Uses
do not, so that a mend beside an old name needs no new figure. A word in lower case counts as a part
of a name (`flight` in `first_flights`, in `FlightEnds`); one with a capital is a whole name.
"""

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = ROOT / "tests" / "unit" / "house_words.toml"
PACKAGES = {
    "contract": "sidecar/embedding_contract",
    "http": "sidecar/embedding_http",
    "operator": "operator/embedding_operator",
    "sidecar": "sidecar/embedding_sidecar",
    "vectors": "vectors/embedding_vectors",
}
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def figures() -> dict[str, dict[str, str | int]]:
    """The rows of the file: for each word the field's own, and how often each package has it."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def count(words: list[str]) -> dict[str, dict[str, int]]:
    """How often each package gives a name that has the word, without packages that never do."""
    found = {package: given(ROOT / folder) for package, folder in PACKAGES.items()}
    return {
        word: {
            package: number
            for package, names in found.items()
            if (number := sum(n for name, n in names.items() if has(name, word)))
        }
        for word in words
    }


def has(name: str, word: str) -> bool:
    """Whether a name is, or has, the word or its plural."""
    if word[0].isupper():
        return name.lstrip("_") == word
    return any(part.lower() in (word, f"{word}s") for part in _PART.findall(name))


def given(folder: Path) -> Counter[str]:
    """How often the modules of a folder give each name."""
    return Counter(
        name
        for path in sorted(folder.rglob("*.py"))
        for name in (path.stem, *_given(ast.parse(path.read_text(encoding="utf-8"))))
    )


def _given(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname


def lowered(text: str, counts: Mapping[str, Mapping[str, int]]) -> str:
    """The file with each figure that is higher than the count as the count; no row added."""

    def row(found: re.Match[str]) -> str:
        counted = counts[found["word"]]
        figures = {
            package: min(int(number), counted.get(package, 0))
            for package, number in re.findall(r", (\w+) = (\d+)", found["figures"])
        }
        left = "".join(f", {package} = {number}" for package, number in figures.items() if number)
        return f"{found['head']}{left} }}"

    pattern = r'^(?P<head>(?P<word>\w+) = \{ field = "[^"]*")(?P<figures>.*) \}$'
    return re.sub(pattern, row, text, flags=re.MULTILINE)


if __name__ == "__main__":
    FILE.write_text(
        lowered(FILE.read_text(encoding="utf-8"), count(list(figures()))), encoding="utf-8"
    )
