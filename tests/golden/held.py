"""Files that hold what others rely on: written by one command, compared by the tests."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

FILES = Path(__file__).parent / "files"
COMMAND = "make golden (python -m tests.golden)"

Texts = Mapping[str, str]
"""The whole text of each file of a kind, by the file's name."""


def lines(found: Iterable[str]) -> str:
    """A text of sorted lines, each once."""
    return "".join(f"{it}\n" for it in sorted(set(found)))


def check(made: Texts) -> None:
    """Fail with a diff and the command, where a file holds something else than was made."""
    diffs: list[str] = []
    for name, text in made.items():
        changed = difflib.unified_diff(
            (_held(name) or "").splitlines(),
            text.splitlines(),
            fromfile=f"held: tests/golden/files/{name}",
            tofile="the product now",
            lineterm="",
            n=1,
        )
        diffs.extend(changed)
    if diffs:
        raise AssertionError(
            "\n".join(
                (
                    "",
                    *diffs,
                    "",
                    "Users, stored data or running pods rely on the lines that begin with '-'.",
                    f"Where the change is meant, write the files anew by: {COMMAND}",
                    "and say it in CHANGELOG.md.",
                )
            )
        )


def write(makers: Iterable[Callable[[], Texts]]) -> list[str]:
    """Write every file anew; and delete what is made no more; the names of those that changed."""
    FILES.mkdir(exist_ok=True)
    made = {name: text for make in makers for name, text in make().items()}
    changed = [name for name, text in made.items() if text != _held(name)]
    for name in changed:
        (FILES / name).write_text(made[name], encoding="utf-8")
    for file in FILES.iterdir():
        if file.name not in made:
            file.unlink()
            changed.append(file.name)
    return changed


def _held(name: str) -> str | None:
    file = FILES / name
    return file.read_text(encoding="utf-8") if file.exists() else None
