"""`make sbom`: a CycloneDX bill of each image, and a licence check that fails on an unlisted one.

python -m dev.sbom                      build our images, and write sbom/IMAGE.cdx.json
python -m dev.sbom NAME=ARCHIVE ...     of these docker-archives, as the release workflow does
"""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from dev.cluster import images
from dev.cluster.errors import Failure
from dev.sbom import bill, contents, licences

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "sbom"
OURS = ("operator", "sidecar", "vectors")


def main() -> int:
    """Write the bills; 1 if a package's licence is not listed."""
    try:
        archives = dict(map(_named, sys.argv[1:])) or _built()
    except (Failure, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    listed, refused = licences.read(), []
    FOLDER.mkdir(exist_ok=True)
    # The commit's time in a release, so that equal content makes an equal bill.
    when = datetime.fromtimestamp(
        int(os.environ.get("SOURCE_DATE_EPOCH") or datetime.now(UTC).timestamp()), UTC
    )
    for name, archive in archives.items():
        found = contents.packages(archive)
        refused += [f"{name}: {it}" for it in licences.objections(found, listed)]
        text = bill.of(name, found, digest=contents.digest(archive), listed=listed, when=when)
        file = FOLDER / f"{name}.cdx.json"
        file.write_text(text, encoding="utf-8")
        kinds = [sum(it.kind == kind for it in found) for kind in ("pypi", "deb")]
        print(f"{file.relative_to(ROOT)}: {kinds[0]} of PyPI, {kinds[1]} of Debian")
    for line in refused:
        print(f"refused: {line}", file=sys.stderr)
    return 1 if refused else 0


def _named(argument: str) -> tuple[str, Path]:
    name, equals, archive = argument.partition("=")
    if not equals:
        raise ValueError(f"{argument}: say NAME=ARCHIVE")
    return name, Path(archive)


def _built() -> dict[str, Path]:
    return {
        f"embedding-{it}": images.build(
            f"localhost/embedding-{it}:dev", file=ROOT / it / "Dockerfile", context=ROOT
        )
        for it in OURS
    }


if __name__ == "__main__":
    sys.exit(main())
