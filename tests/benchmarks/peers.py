"""`make bench-peers`: LiteLLM's proxy and Portkey's gateway beside the sidecar, in one run.

Each has the core of the server under test to itself in its turn, in front of the same provider,
and is asked the same. What fails is shown as failed.

python -m tests.benchmarks.peers [--no-page]
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.benchmarks import load, page
from tests.benchmarks.stage import MODEL, Server, Stage, request, stage, text
from tests.parts import ports

LITELLM, PORTKEY = "1.106.2", "1.15.2"
HOME = Path.home() / ".cache" / "embedding-operator" / "bench"
TEXTS = 200
ROUNDS = 5
SECONDS = 4.0
CONNECTIONS = 32
START_SECONDS = 120.0
_ENOUGH = 30_000

Requests = Callable[[str], Sequence[bytes]]


@dataclass(slots=True, kw_only=True)
class Peer:
    """A contestant; `headers` go with each request, `trouble` is why it does not run."""

    name: str
    server: Server | None = None
    headers: tuple[str, ...] = ()
    trouble: str = ""
    found: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    rss_mb: float | None = None


def hits(_: str) -> list[bytes]:
    """Texts that have been asked for."""
    return [request(text(number)) for number in range(TEXTS)]


def partial_hits(name: str) -> list[bytes]:
    """Batches of ten, of which nine texts have been asked for."""
    known = [text(number) for number in range(9)]
    return [request(*known, text(f"{name}-{number}")) for number in range(_ENOUGH // 10)]


def misses(name: str) -> list[bytes]:
    """Texts nobody has asked for."""
    return [request(text(f"{name}-{number}")) for number in range(_ENOUGH)]


def batches(name: str) -> list[bytes]:
    """Batches of a hundred texts nobody has asked for."""
    return [
        request(*(text(f"{name}-{batch}-{number}") for number in range(100)))
        for batch in range(_ENOUGH // 100)
    ]


LOADS: dict[str, Requests] = {
    "hit": hits,
    "9 of 10 cached": partial_hits,
    "miss": misses,
    "batch of 100, new": batches,
}


def main() -> None:
    """Install, measure, print, and write docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers")
    parser.add_argument("--no-page", action="store_true", help="print only")
    given = parser.parse_args()
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder)) as on:
        found = [_ours(on), _started(on, "LiteLLM", _litellm), _started(on, "Portkey", _portkey)]
        for number in range(ROUNDS):
            for name, requests in LOADS.items():
                for peer in found:
                    _ask(peer, name, requests, number)
        for peer in found:
            if peer.server is not None:
                peer.rss_mb = peer.server.memory("VmRSS")
    text_of = table(found)
    sys.stdout.write(f"{text_of}\n")
    if not given.no_page:
        page.write("peers", text_of, command="make bench-peers")


def table(found: Sequence[Peer]) -> str:
    """Requests a second and memory of each, and how many times each peer's ours are."""
    ours, *others = found
    rows = [
        (
            f"{name}, requests/s",
            *(_shown(peer, name) for peer in found),
            *(_times(ours, peer, name) for peer in others),
        )
        for name in LOADS
    ]
    sizes = [peer.rss_mb for peer in found]
    rows.append(
        (
            "RSS after it all, MB (theirs over ours)",
            *("-" if it is None else f"{it:.0f}" for it in sizes),
            *(
                "-" if it is None or sizes[0] is None else f"{it / sizes[0]:.1f}"
                for it in sizes[1:]
            ),
        )
    )
    names = [peer.name for peer in found]
    head = ("load", *names, *(f"times {name.split()[0]}" for name in names[1:]))
    troubles = [
        f"{peer.name}: {why}"
        for peer in others
        for why in dict.fromkeys((peer.trouble, *peer.failed.values()))
        if why
    ]
    failed = "\n".join(f"- {trouble}" for trouble in troubles)
    return page.table(head, rows) + (f"\n\nFailures:\n\n{failed}" if failed else "")


def _shown(peer: Peer, name: str) -> str:
    if peer.trouble or name in peer.failed:
        return "failed"
    return f"{median(peer.found[name]):.0f}"


def _times(ours: Peer, peer: Peer, name: str) -> str:
    """How often the peer's requests fit into ours: in the middle of the rounds, and from to."""
    if peer.trouble or name in peer.failed or name in ours.failed:
        return "-"
    times = sorted(mine / it for mine, it in zip(ours.found[name], peer.found[name], strict=True))
    return f"{median(times):.0f} ({times[0]:.0f} to {times[-1]:.0f})"


def _ask(peer: Peer, name: str, requests: Requests, number: int) -> None:
    if peer.server is None or name in peer.failed:
        return
    made = [load.with_headers(it, peer.headers) for it in requests(f"{peer.name}-{name}-{number}")]
    try:
        if number == 0 and name == "hit":
            load.run(peer.server.port, made, connections=4, count=len(made))
        measured = load.run(
            peer.server.port, made, connections=CONNECTIONS, count=_ENOUGH, seconds=SECONDS
        )
    except (ValueError, OSError) as error:
        peer.failed[name] = f"{name}: {error}"
        return
    peer.found.setdefault(name, []).append(measured.requests_per_second)


def _ours(on: Stage) -> Peer:
    return Peer(name="embedding-sidecar", server=on.sidecar(memory_max_bytes=2**25))


def _started(
    on: Stage, name: str, start: Callable[[Stage], tuple[Server, tuple[str, ...]]]
) -> Peer:
    version = {"LiteLLM": LITELLM, "Portkey": PORTKEY}[name]
    try:
        server, headers = start(on)
    except (subprocess.SubprocessError, OSError, AssertionError) as error:
        return Peer(name=f"{name} {version}", trouble=f"does not start: {error}")
    return Peer(name=f"{name} {version}", server=server, headers=headers)


def _litellm(on: Stage) -> tuple[Server, tuple[str, ...]]:
    # On the same Python as the sidecar. `uv run` says in UV where uv is.
    home = HOME / f"litellm-{LITELLM}-on-{platform.python_version()}"
    program = home / "bin" / "litellm"
    if not program.exists():
        uv = os.environ["UV"]
        _install([uv, "venv", "--quiet", "--clear", "--python", sys.executable, home])
        _install(
            [
                *(uv, "pip", "install", "--quiet", "--python", home / "bin" / "python"),
                f"litellm[proxy]=={LITELLM}",
            ]
        )
    config = on.folder / "litellm.json"
    target = {"model": f"openai/{MODEL}", "api_base": on.vendor_url, "api_key": "sk-bench"}
    cached = {"type": "local", "supported_call_types": ["embedding", "aembedding"]}
    # JSON is YAML too.
    config.write_text(
        json.dumps(
            {
                "model_list": [{"model_name": MODEL, "litellm_params": target}],
                "litellm_settings": {"cache": True, "cache_params": cached, "telemetry": False},
            }
        ),
        encoding="utf-8",
    )
    port = ports.free()
    server = on.start(
        [
            *(str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)),
            *("--num_workers", "1", "--telemetry", "False"),
        ],
        port=port,
        cores=on.tested,
        # Prices from the package, not from the network.
        environment={
            **_plain(),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        },
        seconds=START_SECONDS,
    )
    return server, ()


def _portkey(on: Stage) -> tuple[Server, tuple[str, ...]]:
    home = HOME / f"portkey-{PORTKEY}"
    gateway = home / "node_modules" / "@portkey-ai" / "gateway"
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise FileNotFoundError("there is no node and npm here")
    if not gateway.exists():
        home.mkdir(parents=True, exist_ok=True)
        package = f"@portkey-ai/gateway@{PORTKEY}"
        _install([npm, "install", "--no-audit", "--no-fund", "--prefix", home, package])
    port = ports.free()
    server = on.start(
        [node, str(gateway / "build" / "start-server.js"), f"--port={port}", "--headless"],
        port=port,
        cores=on.tested,
        environment={**_plain(), "NODE_ENV": "production"},
        seconds=START_SECONDS,
    )
    config = {
        "provider": "openai",
        "api_key": "sk-bench",
        "custom_host": on.vendor_url,
        "cache": {"mode": "simple", "max_age": 3600},
    }
    return server, (f"x-portkey-config: {json.dumps(config, separators=(',', ':'))}",)


def _install(command: Sequence[str | Path]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=600)


def _plain() -> dict[str, str]:
    """No key and no proxy of whoever runs this."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


if __name__ == "__main__":
    main()
