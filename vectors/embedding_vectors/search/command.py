"""`embedding-vectors serve`: answers searches until SIGTERM or SIGINT."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from typing import Any, Final

import uvloop

from embedding_contract import names
from embedding_http import server as http_server
from embedding_vectors import settings
from embedding_vectors.database import connections
from embedding_vectors.embedding_client import EmbeddingClient
from embedding_vectors.errors import DatabaseError
from embedding_vectors.metrics import Metrics
from embedding_vectors.search import in_force, query_vector
from embedding_vectors.search.app import Application
from embedding_vectors.search.columns import Columns
from embedding_vectors.search.in_force import InForce
from embedding_vectors.search.reading import Reader
from embedding_vectors.search.reported import Reported
from embedding_vectors.search.searcher import Searcher
from embedding_vectors.search.targets import Targets
from embedding_vectors.serving import pages, server

CANNOT_START: Final = 2
MAX_CONNECTIONS: Final = 8
"""The most connections of one pod to the database, whatever the document says."""
COUNTED_SECONDS: Final = 10.0
"""The interval at which the metrics take the bookkeeping's figures."""
LEAVING_LOOKS: Final = 40
"""The looks after a change of the DSN: in their 20 s every search under way has ended."""
APPLICATION: Final = "embedding-vectors search"
"""The application's name in pg_stat_activity."""


def add_to(commands: Any) -> None:
    """Add `serve` to a parser's subcommands."""
    parser = commands.add_parser("serve", help="answer searches of the index")
    settings.add_arguments(parser)
    parser.add_argument("--port", type=int, default=names.VECTORS_PORT, metavar="PORT")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("embedding_vectors").setLevel(logging.INFO)
    try:
        listening = http_server.listen(options.port)
    except http_server.PortTaken as error:
        sys.stderr.write(f"embedding-vectors: {error}\n")
        return CANNOT_START
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(options, listening))
    return 0


async def _serve(options: argparse.Namespace, listening: socket.socket) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    given = settings.of(options, os.environ)
    current = InForce(settings_=given, name=options.name)
    current.look()
    document = current.document()
    search = document.search if document else None
    opened = connections.of_settings(
        given,
        application=APPLICATION,
        most=min(search.connections if search else MAX_CONNECTIONS, MAX_CONNECTIONS),
    )
    reader, metrics = Reader(opened), Metrics()
    targets = Targets(reader)
    reported = Reported(current=current, targets=targets, metrics=metrics)
    client = EmbeddingClient(base_url=given.sidecar_url, timeout_seconds=query_vector.EMBED_SECONDS)
    application = Application(
        current=current,
        searcher=Searcher(
            reader=reader,
            columns=Columns(reader),
            targets=targets,
            embedder=query_vector.QueryEmbedder(client),
            metrics=metrics,
        ),
        own_pages=pages.Pages(
            metrics=metrics, report=reported.report, token=current.token, pod_uid=given.pod_uid
        ),
    )
    following = [
        asyncio.create_task(it)
        for it in (current.follow(), _count(reported), _follow_dsn(given, opened))
    ]
    for task in following:
        # A pod that no longer follows its document ends, and is restarted.
        task.add_done_callback(lambda _: stop.set())
    try:
        await server.serve(application.app(), listening=listening, until=stop)
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await client.close()
        opened.close()


async def _follow_dsn(given: settings.Settings, opened: connections.Connections) -> None:
    """Close connections to an address that is no longer the index's, as they become idle."""
    known, left = _dsn(given), 0
    while True:
        await asyncio.sleep(in_force.POLL_SECONDS)
        now = _dsn(given)
        left = LEAVING_LOOKS if now != known else max(0, left - 1)
        known = now
        if left:
            opened.close()


def _dsn(given: settings.Settings) -> bytes:
    try:
        return given.dsn_file.read_bytes()
    except OSError:
        return b""


async def _count(reported: Reported) -> None:
    while True:
        # The report shows a failure.
        with contextlib.suppress(DatabaseError):
            await reported.count()
        await asyncio.sleep(COUNTED_SECONDS)
