"""`kubectl embedding cost` and `kubectl embedding dashboard`."""

import argparse
import asyncio
import re
import signal
import sys
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from embedding_operator import errors
from embedding_operator.console import (
    collection,
    costs,
    limits,
    prometheus,
    server,
    usage,
    views,
)
from embedding_operator.kube import client

CANNOT: Final = 2
MONTH: Final = "month"
_WINDOW: Final = re.compile(r"[1-9][0-9]{0,5}[smhdw]")

Command = Callable[[argparse.Namespace, client.KubeClient, str], int]


def add_to(
    commands: Any,
    *,
    where: argparse.ArgumentParser,
    asking: Callable[[Command], Callable[[argparse.Namespace], int]],
) -> None:
    """Add `cost` and `dashboard` to the plugin's subcommands."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("-A", "--all-namespaces", action="store_true", help="of every namespace")
    shared.add_argument(
        "--prometheus", metavar="ADDRESS", help="http(s)://HOST, or NAMESPACE/SERVICE:PORT"
    )
    cost = commands.add_parser(
        "cost", parents=[where, shared], help="show the cost of billed tokens"
    )
    cost.add_argument("--by", choices=("policy", "workload", "provider"), default="policy")
    cost.add_argument(
        "--window",
        type=_window,
        default="24h",
        help="with --prometheus: the period to count, such as 24h, or month for this month in UTC",
    )
    cost.set_defaults(run=asking(_cost))
    page = commands.add_parser(
        "dashboard", parents=[where, shared], help="a page in the browser, served on loopback"
    )
    page.add_argument("--port", type=int, default=0, help="else a free one")
    page.add_argument("--no-browser", action="store_true", help="only print the address")
    page.set_defaults(run=asking(_dashboard))


def _window(text: str) -> str:
    if text != MONTH and not _WINDOW.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a duration such as 90m, 24h or 7d, and not {MONTH}"
        )
    return text


def range_of(window: str, now: datetime) -> str:
    """The range of a query; for the word month, since the month began in UTC."""
    if window != MONTH:
        return window
    begun = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return f"{max(60, round((now - begun).total_seconds()))}s"


def _cost(options: argparse.Namespace, api: client.KubeClient, namespace: str) -> int:
    chosen = None if options.all_namespaces else namespace
    policies, now = collection.policies(api, chosen), datetime.now(UTC)
    own = costs.of_policies(policies)
    paces: limits.Paces = {}
    found = collection.pods(api, chosen)
    if options.prometheus is not None:
        asked = prometheus.connect(api, options.prometheus)
        window = range_of(options.window, now)
        billed = collection.billed(asked, found, namespace=chosen, window=window)
        paces = collection.paces(asked, namespace=chosen)
        since = "this month" if options.window == MONTH else f"the last {options.window}"
        remarks = [f"Tokens that Prometheus counted in {since}."]
    else:
        scraped = collection.scrape(api, found)
        billed = [
            it
            for pod, seen in scraped.series
            for it in usage.tokens(
                seen, namespace=pod.namespace, policy=pod.policy, workload=pod.workload
            )
        ]
        remarks = _remarks(scraped)
        if not scraped.series and scraped.failed:
            raise errors.Denied(f"no sidecar answered: {scraped.failed[0][1]}")
    shown = costs.total(billed, own=own, by=options.by)
    told = limits.of_policies(policies) if options.by == "policy" else {}
    rows = {
        f"{key[0]}/{key[1]}": [
            (it.name, it.shown, it.lasts(now, pace=paces.get((*key, it.period, it.unit))))
            for it in found_limits
        ]
        for key, found_limits in told.items()
    }
    if shown or rows:
        sys.stdout.write(costs.table(shown, by=options.by, limits=rows) + "\n")
    else:
        sys.stdout.write("No tokens have been billed.\n")
    if rows:
        pace = "of the last hour" if paces else "of its period so far"
        remarks.append(f"Limits as the status has them; LASTS UNTIL is at the pace {pace}.")
    sys.stdout.writelines(f"{line}\n" for line in (*remarks, *costs.notes(shown)))
    return 0


def _remarks(scraped: collection.Scraped) -> list[str]:
    """The limits of the figures of running sidecars."""
    remarks = [
        f"Tokens of {len(scraped.series)} running sidecars since their start.",
        "Ended pods are not counted; --prometheus counts them, for a period.",
    ]
    if scraped.failed:
        pod, why = scraped.failed[0]
        remarks.append(
            f"{len(scraped.failed)} sidecars did not answer, such as"
            f" {pod.namespace}/{pod.name}: {why}"
        )
    return remarks


def _dashboard(options: argparse.Namespace, api: client.KubeClient, namespace: str) -> int:
    chosen = None if options.all_namespaces else namespace
    asked = None if options.prometheus is None else prometheus.connect(api, options.prometheus)
    shown = views.ClusterViews(api, namespace=chosen, asked=asked)
    shown.state()  # reports missing rights here, and not in a browser
    try:
        asyncio.run(_serve(shown, port=options.port, browse=not options.no_browser))
    except OSError as error:
        raise errors.Denied(f"--port {options.port}: {error.strerror}") from None
    return 0


async def _serve(shown: server.Views, *, port: int, browse: bool) -> None:
    page = server.Server(shown)
    await page.start(port)
    try:
        sys.stdout.write(
            f"Serving on {page.url}\nOnly this address opens the page. Ctrl-C ends it.\n"
        )
        sys.stdout.flush()
        if browse:
            with suppress(webbrowser.Error):
                webbrowser.open(page.url)
        await _told_to_stop()
    finally:
        await page.stop()


async def _told_to_stop() -> None:
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    await stopping.wait()
