"""The promises of the Dockerfiles: pinned tools, a numeric user, only copied files are sent."""

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

from dev.cluster import dockerfiles
from embedding_operator.injection import fields

ROOT = Path(__file__).parents[2]
DOCKERFILES = {
    file.parent.name: file.read_text(encoding="utf-8")
    for file in (
        ROOT / "sidecar",
        ROOT / "operator",
        ROOT / "vectors",
        ROOT / "examples" / "application",
    )
    for file in (file / "Dockerfile",)
}


def made_of(name, instruction):
    """The arguments of every such instruction, in order."""
    return re.findall(rf"^{instruction} (.*)$", DOCKERFILES[name], re.MULTILINE)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_image_is_built_by_uv_that_made_lock_file(name):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (version,) = re.findall(r"^UV_VERSION := (\S+)$", makefile, re.MULTILINE)
    assert re.findall(r"uv==(\S+)", DOCKERFILES[name]) == [version]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_image_has_python_that_lock_file_is_tested_with(name):
    version = (ROOT / ".python-version").read_text(encoding="utf-8").strip()
    (base,) = (value for value in made_of(name, "ARG") if value.startswith("BASE_IMAGE="))
    assert f"/python:{version}-" in base


def test_base_is_pinned_by_digest_and_same_for_all():
    bases = {
        value.partition("=")[2]
        for other in DOCKERFILES
        for value in made_of(other, "ARG")
        if value.startswith("BASE_IMAGE=")
    }
    assert len(bases) == 1
    assert re.search(r"@sha256:[0-9a-f]{64}$", bases.pop())


def test_release_uses_actions_by_commit():
    text = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert [it for it in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", it)] == []


def test_release_checks_licences_before_it_pushes():
    text = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    steps = [text.index(it) for it in ("python -m dev.sbom", "docker push", "cosign sign")]
    assert steps == sorted(steps)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_image_runs_as_numeric_user_that_is_not_root(name):
    assert made_of(name, "USER") == [str(fields.USER)]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_only_lock_file_decides_what_is_in_it(name):
    synced = [line for line in made_of(name, "RUN") if line.startswith("uv sync")]
    assert synced
    assert all("--frozen" in line for line in synced)


def test_images_copy_no_code_of_each_other():
    assert not [path for path in dockerfiles.copied(DOCKERFILES["sidecar"]) if "operator" in path]
    copied = dockerfiles.copied(DOCKERFILES["operator"])
    assert "sidecar/embedding_contract" in copied
    assert not [path for path in copied if path in {"sidecar", "sidecar/embedding_sidecar"}]


def test_only_image_of_vectors_has_what_speaks_to_postgresql():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    for name, extra in (("sidecar", "sidecar"), ("operator", "operator")):
        assert not [it for it in extras[extra] if it.startswith(("psycopg", "pgvector"))]
        assert not [path for path in dockerfiles.copied(DOCKERFILES[name]) if "vectors" in path]
        assert not [line for line in made_of(name, "RUN") if "--extra vector" in line]
    copied = dockerfiles.copied(DOCKERFILES["vectors"])
    assert not [path for path in copied if "embedding_sidecar" in path or "operator" in path]
    assert all(
        "--extra vector" in line for line in made_of("vectors", "RUN") if line.startswith("uv sync")
    )


@pytest.mark.parametrize("name", DOCKERFILES)
def test_copied_path_is_not_in_dockerignore(name):
    """Docker reads .dockerignore: the last pattern that matches decides."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    for path in dockerfiles.copied(DOCKERFILES[name]):
        ignored = False
        for pattern in patterns:
            wanted = pattern.removeprefix("!")
            parents = [str(parent) for parent in (Path(path), *Path(path).parents)]
            if any(fnmatch.fnmatch(parent, wanted) for parent in parents if parent != "."):
                ignored = not pattern.startswith("!")
        assert not ignored, path
