"""`embedding-vectors backfill`: embeds rows that lack a vector, until all have one."""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop

from embedding_contract import index_report, names
from embedding_contract.index_report import IndexReport
from embedding_contract.json_fields import InvalidDocument
from embedding_vectors import settings
from embedding_vectors.backfill import progress, worker
from embedding_vectors.backfill.waits import Stop
from embedding_vectors.database import connections
from embedding_vectors.embedding_client import ANSWER_SECONDS, EmbeddingClient
from embedding_vectors.metrics import Metrics
from embedding_vectors.serving import pages, server

DOCUMENT_POLL_SECONDS = 1.0


def add_to(commands: Any) -> None:
    """Add `backfill` to a parser's subcommands."""
    fills = commands.add_parser("backfill", help="embed what lacks a vector, until all have one")
    settings.add_arguments(fills)
    fills.add_argument(
        "--lease-seconds",
        type=float,
        default=worker.LEASE_SECONDS,
        help="after so long another worker takes rows whose worker died (default: %(default)s)",
    )
    fills.add_argument(
        "--patience-seconds",
        type=float,
        default=worker.PATIENCE_SECONDS,
        help="ends a run in which nothing succeeds for so long (default: %(default)s)",
    )
    fills.add_argument(
        "--termination-log",
        type=Path,
        default=settings.TERMINATION_LOG,
        metavar="FILE",
        help="where the report of the end is left, if it is there (default: %(default)s)",
    )
    fills.add_argument(
        "--port",
        type=int,
        default=names.VECTORS_PORT,
        metavar="PORT",
        help="where metrics, probes and the report are shown (default: %(default)s)",
    )
    fills.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_backfill(options))


class _Told:
    """The current worker's report."""

    def __init__(self) -> None:
        self.of_worker = _nothing_yet

    async def report(self) -> IndexReport:
        """The current report."""
        return self.of_worker()


def _nothing_yet() -> IndexReport:
    return IndexReport(document="")


async def _backfill(options: argparse.Namespace) -> int:
    chosen, metrics, told = settings.of(options), Metrics(), _Told()
    shown = pages.Pages(
        metrics=metrics,
        report=told.report,
        token=lambda: settings.token(chosen),
        pod_uid=chosen.pod_uid,
    )
    async with server.beside(shown.app(), port=options.port):
        return await _followed(options, chosen, metrics, told)


async def _followed(
    options: argparse.Namespace, chosen: settings.Settings, metrics: Metrics, told: _Told
) -> int:
    timing = worker.Timing(
        lease_seconds=options.lease_seconds, patience_seconds=options.patience_seconds
    )
    ended = Stop()
    with _stopped_by_signals(ended):
        while True:
            try:
                loaded = settings.load(chosen, name=options.name)
            except (OSError, InvalidDocument) as error:
                sys.stderr.write(f"error: {error}\n")
                return 1
            changed = asyncio.Event()
            is_complete, report = await _filled(
                chosen, loaded, ended, changed, timing=timing, metrics=metrics, told=told
            )
            if not changed.is_set() or ended.is_set:
                break
    _leave(options.termination_log, report)
    return 0 if is_complete else 1


async def _filled(
    chosen: settings.Settings,
    loaded: settings.Loaded,
    ended: Stop,
    changed: asyncio.Event,
    *,
    timing: worker.Timing,
    metrics: Metrics,
    told: _Told,
) -> tuple[bool, IndexReport]:
    """Carry out one document, until it changes or the process is to end."""
    opened = connections.of_settings(
        chosen,
        application=f"embedding-vectors/{loaded.document.name}",
        most=worker.CONNECTIONS,
    )
    client = EmbeddingClient(
        base_url=chosen.sidecar_url,
        background=True,
        timeout_seconds=min(ANSWER_SECONDS, timing.lease_seconds),
    )
    stop = Stop()
    with progress.shown(loaded.document) as shown:
        filling = worker.Worker(
            loaded,
            connections=opened,
            client=client,
            observe=metrics,
            stop=stop,
            say=shown.say,
            timing=timing,
        )
        told.of_worker = filling.report
        watching = asyncio.create_task(_watch(chosen, loaded, ended, changed, stop))
        showing = asyncio.create_task(shown.follow(filling.report))
        try:
            is_complete = await filling.run()
        finally:
            watching.cancel()
            showing.cancel()
            await asyncio.wait({watching, showing})
            await client.close()
            opened.close()
        shown.update(filling.report())
    return is_complete, filling.report()


async def _watch(
    chosen: settings.Settings,
    loaded: settings.Loaded,
    ended: Stop,
    changed: asyncio.Event,
    stop: Stop,
) -> None:
    """Stop the worker when the process is to end, or its document has changed."""
    while not ended.is_set:
        with contextlib.suppress(OSError, InvalidDocument):
            if settings.load(chosen).fingerprint != loaded.fingerprint:
                changed.set()
                break
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DOCUMENT_POLL_SECONDS):
                await ended.wait()
    stop.set()


@contextlib.contextmanager
def _stopped_by_signals(stop: Stop) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _leave(file: Path, report: IndexReport) -> None:
    """Write the report to the file that Kubernetes reads as the termination message."""
    with contextlib.suppress(OSError):
        if file.exists():
            file.write_text(index_report.dump(report), encoding="utf-8")
