"""An image is built anew only when a file that it takes has changed."""

import subprocess

import pytest

from dev.cluster import dockerfiles

DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS build
COPY pyproject.toml uv.lock ./
COPY --chown=1:1 --chmod=644 sidecar \\
     README.md /app/
copy ["a b.txt", "/app/"]
FROM ${BASE_IMAGE}
COPY --from=build /app /app
"""


def test_sources_are_found_but_not_those_of_other_stages():
    expected = ["pyproject.toml", "uv.lock", "sidecar", "README.md", "a b.txt"]
    assert dockerfiles.copied(DOCKERFILE) == expected


@pytest.fixture
def context(tmp_path):
    for name in ("pyproject.toml", "sidecar/app.py", "sidecar/x/y.py", "tests/test.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def _taken(dockerfile, context):
    return [str(path) for path in dockerfiles.context_files(dockerfile, context)]


def test_only_what_is_copied_is_taken(context):
    taken = _taken("COPY pyproject.toml ./\nCOPY sidecar/ /app", context)
    assert taken == ["pyproject.toml", "sidecar/app.py", "sidecar/x/y.py"]


def test_dot_takes_everything(context):
    assert len(_taken("COPY . .", context)) == 4


def test_pattern_takes_what_it_matches(context):
    assert _taken("COPY *.toml sidecar/*.py /", context) == ["pyproject.toml", "sidecar/app.py"]


def test_missing_source_of_copy_is_named(context):
    with pytest.raises(dockerfiles.ContextError, match=r"uv\.lock: no such file"):
        dockerfiles.context_files("COPY uv.lock ./", context)


def test_file_ignored_by_git_is_not_taken(context):
    (context / ".gitignore").write_text("*.pyc\n")
    (context / "sidecar/app.pyc").write_text("")
    subprocess.run(["git", "init", "--quiet"], cwd=context, check=True)
    assert _taken("COPY sidecar .", context) == ["sidecar/app.py", "sidecar/x/y.py"]


def test_stage_holds_those_files_and_no_others(context, tmp_path_factory):
    stage = tmp_path_factory.mktemp("build") / "stage"
    files = dockerfiles.context_files("COPY sidecar .", context)
    dockerfiles.stage(files, context, stage)
    found = sorted(str(p.relative_to(stage)) for p in stage.rglob("*") if p.is_file())
    assert found == ["sidecar/app.py", "sidecar/x/y.py"]
