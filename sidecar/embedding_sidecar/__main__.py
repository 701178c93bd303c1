"""`embedding-sidecar`: run from a document that is followed, or from the environment.

SIGTERM or SIGINT lets requests under way finish; a second one ends them at once. The exit code is 0
after a signal, 2 where a setting or a port cannot be used.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from embedding_contract import names
from embedding_http.connection_limit import ConnectionLimit
from embedding_http.flow import WriteCoalescer
from embedding_http.protocol import Listener
from embedding_http.server import LOOPBACK, PortTaken, Server, listen
from embedding_sidecar import memory_limit
from embedding_sidecar.api import server
from embedding_sidecar.api.app import Application
from embedding_sidecar.api.fast_path import FastPath
from embedding_sidecar.engine import service
from embedding_sidecar.policy import current_policy, policy_file, runtime, settings, variables
from embedding_sidecar.redis_client import redis_url
from embedding_sidecar.telemetry import logs
from embedding_sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from embedding_sidecar.telemetry.otel import export

CANNOT_START = 2
GARBAGE_THRESHOLD = 10_000
"""Objects made and not freed before Python looks for cycles; its default is 700."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    options = _options(arguments)
    logs.configure()
    try:
        settings.check_proxies(os.environ)
        source = _source(options)
        api_port, admin_port = settings.ports(os.environ)
        timing = settings.timing(os.environ)
        telemetry = _telemetry(os.environ)
        memory_bytes = settings.memory_bytes(os.environ) or memory_limit.limit_bytes()
        callers = settings.callers(os.environ)
        listening = (listen(api_port, host=LOOPBACK), listen(admin_port))
    except (variables.InvalidSetting, PortTaken) as error:
        sys.stderr.write(f"embedding-sidecar: {error}\n")
        return CANNOT_START
    # Loaded modules stay: a collection that looks through them stops requests for 25 ms.
    gc.collect()
    gc.freeze()
    # Requests leave hardly any garbage in cycles, so collections may be rare.
    gc.set_threshold(GARBAGE_THRESHOLD)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            _run(
                source,
                listening,
                timing=timing,
                memory_bytes=memory_bytes,
                callers=callers,
                telemetry=telemetry,
            )
        )
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="embedding-sidecar",
        description="An OpenAI-compatible embeddings API with cache, quota and failover.",
    )
    parser.add_argument(
        "--document",
        type=Path,
        nargs="?",
        const=Path(names.DOCUMENT_PATH),
        help="follow this policy document (default: the environment is the policy; default FILE: "
        "%(const)s)",
        metavar="FILE",
    )
    parser.add_argument(
        "--secrets",
        type=Path,
        default=Path(names.SECRETS_DIRECTORY),
        help="directory of the files that the document names (default: %(default)s)",
        metavar="DIRECTORY",
    )
    return parser.parse_args(arguments)


def _source(options: argparse.Namespace) -> current_policy.Source:
    if options.document is not None:
        return policy_file.Follower(
            path=options.document, secrets=options.secrets, check=runtime.check
        )
    found = settings.from_environment(os.environ)
    if names.SECRET_CACHE_REDIS_URL in found.secrets:
        try:
            redis_url.connect(found.secrets[names.SECRET_CACHE_REDIS_URL])
        except ValueError as error:
            raise variables.InvalidSetting("REDIS_URL", str(error)) from None
    return current_policy.Fixed(found)


async def _run(
    source: current_policy.Source,
    listening: Sequence[socket.socket],
    *,
    timing: service.Timing,
    memory_bytes: int,
    callers: settings.Callers,
    telemetry: "export.Telemetry | None" = None,
) -> None:
    stop, at_once = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (at_once if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    metrics = Metrics()
    factory = runtime.RuntimeFactory(metrics=metrics, timing=timing, memory_bytes=memory_bytes)
    current = current_policy.CurrentPolicy(source=source, factory=factory)
    await current.look()
    application = Application(current=current, metrics=metrics, callers=callers)

    def busy() -> bool:
        found = current.runtime_or_none()
        return found is not None and not found.quota.idle

    most = server.connections(_descriptors())
    api = Listener(
        application=application.api(
            # A request that has waited for memory keeps half its time for calls, which are billed
            # even if they are cut short.
            patience_seconds=timing.request_seconds / 2,
            memory_bytes=memory_bytes,
            tracer=telemetry.tracer if telemetry else None,
        ),
        limit=ConnectionLimit(most.api, spares_answering=True),
        coalesce=WriteCoalescer().send,
    )
    admin = Listener(
        application=application.admin(),
        bounds=server.ADMIN,
        limit=ConnectionLimit(most.admin, per_address=server.MAX_ADMIN_PER_ADDRESS),
    )
    following = [
        asyncio.create_task(work)
        for work in (current.follow(), current.follow_generations(), current.follow_quota())
    ]
    for task in following:
        # A sidecar that no longer follows its policy ends, and is started again.
        task.add_done_callback(lambda _: stop.set())
    try:
        await server.serve(
            api=(Server(api, protocol=FastPath), listening[0]),
            admin=(Server(admin), listening[1]),
            until=stop,
            at_once=at_once,
            busy=busy,
        )
    finally:
        for task in following:
            task.cancel()
        try:
            for task in following:
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        finally:
            # Leases are released also where following failed.
            await factory.close()
            if telemetry is not None:
                await telemetry.close()


def _telemetry(environment: Mapping[str, str]) -> "export.Telemetry | None":
    """Spans and metrics, where the environment names a collector.

    Raises:
        variables.InvalidSetting: the SDK is not installed, or its options are not supported.
    """
    interval_seconds = settings.export_seconds(environment)
    if interval_seconds is None:
        return None
    try:
        # OpenTelemetry is loaded only where tracing is on: it takes 5 MB of every pod.
        from embedding_sidecar.telemetry.otel import export  # noqa: PLC0415
    except ImportError as error:
        raise variables.InvalidSetting(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            f"tracing needs the extra `otel`, and {error.name} is not installed",
        ) from None
    return export.Telemetry(
        sampler=environment.get("OTEL_TRACES_SAMPLER"), interval_seconds=interval_seconds
    )


def _descriptors() -> int:
    """Raise this process's limit of open files to the hard limit, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


if __name__ == "__main__":
    sys.exit(main())
