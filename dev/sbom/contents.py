"""The packages of an image, read from its docker-archive as the last layer leaves them."""

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import Any, Final, Literal

Kind = Literal["pypi", "deb"]

_METADATA: Final = ".dist-info/METADATA"
_STATUS: Final = "var/lib/dpkg/status"
_WHITEOUT: Final = ".wh."
_CLASSIFIED: Final = "License :: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An installed package; `said` is all that its own metadata says of its licence."""

    kind: Kind
    name: str
    version: str
    architecture: str = ""
    said: tuple[str, ...] = ()


def packages(archive: Path) -> list[Package]:
    """The Python and Debian packages of an image, by kind and name.

    Raises:
        KeyError: the file is no docker-archive.
    """
    files = _files(archive)
    python = [_python(text) for path, text in files.items() if path.endswith(_METADATA)]
    debian = [_debian(it) for it in files.get(_STATUS, "").split("\n\n") if it.strip()]
    return sorted((*python, *debian), key=lambda it: (it.kind, it.name.lower()))


def digest(archive: Path) -> str:
    """The SHA-256 of an image's configuration, by which container runtimes call the image.

    Raises:
        KeyError: the file is no docker-archive.
    """
    with tarfile.open(archive) as outer:
        return hashlib.sha256(_content(outer, _manifest(outer)["Config"])).hexdigest()


def _manifest(outer: tarfile.TarFile) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_content(outer, "manifest.json"))[0]
    return found


def _content(outer: tarfile.TarFile, name: str) -> bytes:
    content = outer.extractfile(name)
    if content is None:
        raise KeyError(name)
    return content.read()


def _files(archive: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    with tarfile.open(archive) as outer:
        for layer in _manifest(outer)["Layers"]:
            _add(found, _content(outer, layer))
    return found


def _add(found: dict[str, str], layer: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(layer)) as files:
        for member in files:
            path = member.name.removeprefix("./")
            folder, _, name = path.rpartition("/")
            if name.startswith(_WHITEOUT):  # a layer removes what one below it has
                gone = f"{folder}/{name.removeprefix(_WHITEOUT)}"
                for held in [it for it in found if it == gone or it.startswith(f"{gone}/")]:
                    del found[held]
            elif member.isfile() and (path.endswith(_METADATA) or path == _STATUS):
                found[path] = _content(files, member.name).decode("utf-8", "replace")


def _python(text: str) -> Package:
    fields = HeaderParser().parsestr(text)
    classified = [it for it in fields.get_all("Classifier", []) if it.startswith(_CLASSIFIED)]
    said = (fields["License-Expression"], (fields["License"] or "").partition("\n")[0])
    return Package(
        kind="pypi",
        name=fields["Name"],
        version=fields["Version"],
        said=tuple(it.strip() for it in (*said, *classified) if it and it.strip()),
    )


def _debian(stanza: str) -> Package:
    fields = HeaderParser().parsestr(stanza)
    return Package(
        kind="deb",
        name=fields["Package"],
        version=fields["Version"],
        architecture=fields["Architecture"],
    )
