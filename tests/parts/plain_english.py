"""Counts the sentences of our code that do not begin with their subject.

`python -m tests.parts.plain_english` lowers the figures of tests/unit/plain_english.toml to what
the code has; it raises none. `python -m tests.parts.plain_english PATH ...` lists the sentences.

Counted are sentences of docstrings, comments and messages (texts with a space in them) that begin
with one of WORDS. The test reads the code only: pages in Markdown are not looked at.
"""

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.parts.house_words import PACKAGES, ROOT

FILE = ROOT / "tests" / "unit" / "plain_english.toml"
WORDS = (
    "Who",
    "Whoever",
    "Whom",
    "Whose",
    "What",
    "Whatever",
    "Which",
    "Whichever",
    "Whether",
    "Why",
    "How",
    "Of",
    "As",
)
_BEGINNING = re.compile(rf"(?:^|\n\s*\n\s*|[.!?]\s+)(?:[-*]\s+)?({'|'.join(WORDS)})\b(?!')")
_NO_PROSE = re.compile(r"# (?:noqa|type:)")


class Sentence(NamedTuple):
    """A sentence that begins with one of the words, as far as its first line goes."""

    line: int
    text: str


def figures() -> dict[str, int]:
    """How many such sentences each package may have."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def count() -> dict[str, int]:
    """How many such sentences each package has."""
    return {
        package: sum(len(found(path.read_text(encoding="utf-8"))) for path in modules(folder))
        for package, folder in PACKAGES.items()
    }


def modules(folder: str) -> list[Path]:
    """The modules of a folder, by name."""
    return sorted((ROOT / folder).rglob("*.py"))


def found(code: str) -> list[Sentence]:
    """The sentences of a module, in the order of their lines."""
    texts = [*_strings(ast.parse(code)), *_comments(code)]
    return sorted(
        Sentence(line + text.count("\n", 0, it.start(1)), text[it.start(1) :].partition("\n")[0])
        for line, text in texts
        for it in _BEGINNING.finditer(text)
    )


def _strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    within: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            within |= set(ast.walk(node))
            yield node.lineno, "".join(_part(it) for it in node.values)
        elif node not in within and isinstance(node, ast.Constant):
            text = node.value.strip() if isinstance(node.value, str) else ""
            if " " in text:
                yield node.lineno, text


def _part(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else "{}"


def _comments(code: str) -> Iterator[tuple[int, str]]:
    """The comments, of which those on lines of their own that follow each other are one."""
    first, last, lines = 0, -1, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type != tokenize.COMMENT or _NO_PROSE.match(token.string):
            continue
        at = token.start[0]
        if lines and at != last + 1:
            yield first, "\n".join(lines)
            lines = []
        first = first if lines else at
        last = at
        lines.append(token.string.lstrip("#: "))
    if lines:
        yield first, "\n".join(lines)


def lowered(text: str, counts: Mapping[str, int]) -> str:
    """The file with each figure that is higher than the count as the count."""

    def row(it: re.Match[str]) -> str:
        return f"{it[1]} = {min(int(it[2]), counts[it[1]])}"

    return re.sub(r"^(\w+) = (\d+)$", row, text, flags=re.MULTILINE)


if __name__ == "__main__":
    for path in (it for name in sys.argv[1:] for it in modules(str(Path(name).absolute()))):
        for sentence in found(path.read_text(encoding="utf-8")):
            print(f"{path}:{sentence.line}: {sentence.text}")
    if not sys.argv[1:]:
        FILE.write_text(lowered(FILE.read_text(encoding="utf-8"), count()), encoding="utf-8")
