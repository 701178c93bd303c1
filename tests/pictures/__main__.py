"""Pictures for the docs, from a real run: `python -m tests.pictures [--seconds N]`.

docs/pictures/embedding-cost.svg      the 13 panels, drawn by dashboards/picture.py
docs/pictures/dashboard-light.png     the page of `kubectl embedding dashboard`, and -dark.png
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from playwright import sync_api

from dashboards import cost, mixin, picture
from embedding_operator.console import prometheus, views
from tests.parts import browser, dashboards, monitored, paged
from tests.pictures import stage

FOLDER: Final = Path(__file__).parents[2] / "docs" / "pictures"
POINTS: Final = 120


def main() -> int:
    """Run it all and write the pictures; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.pictures")
    parser.add_argument("--seconds", type=float, default=180, help="of traffic (180)")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        monitored.running(Path(folder)) as run,
        browser.chromium() as chromium,
    ):
        started = time.time()
        run.traffic(options.seconds)
        _dashboard(run, started=started)
        _page(run, chromium, seconds=time.time() - started)
    return 0


def _dashboard(run: monitored.Run, *, started: float) -> None:
    asked = prometheus.Prometheus(prometheus.Direct(run.prometheus.url).get)
    now = time.time()

    def ask(expr: str) -> Sequence[picture.Series]:
        found = asked.range(
            dashboards.filled(expr), start=started, end=now, step_seconds=(now - started) / POINTS
        )
        return [picture.Series(labels, points) for labels, points in found]

    file = FOLDER / f"{cost.DASHBOARD.uid}.svg"
    file.write_text(
        picture.draw(dashboards.load(mixin.CHART_FOLDER / cost.DASHBOARD.file), ask),
        encoding="utf-8",
    )
    print(f"wrote {file}")


def _page(run: monitored.Run, chromium: sync_api.Browser, *, seconds: float) -> None:
    shown = views.ClusterViews(
        cast("Any", stage.Policies(stage.policies(run))),
        namespace=None,
        asked=prometheus.Prometheus(prometheus.Direct(run.prometheus.url).get),
        plot_seconds=seconds,
    )
    with paged.served(shown) as url:
        for scheme in ("light", "dark"):
            context = chromium.new_context(
                color_scheme=scheme,
                viewport={"width": 1240, "height": 900},
                device_scale_factor=1.5,
                timezone_id="UTC",
            )
            page = context.new_page()
            page.goto(url)
            page.locator("article", has_text="shop/search").locator("button").click()
            page.locator("figure svg").first.wait_for()
            page.evaluate("document.activeElement.blur()")
            file = FOLDER / f"dashboard-{scheme}.png"
            page.screenshot(path=file, full_page=True)
            context.close()
            print(f"wrote {file}")


if __name__ == "__main__":
    sys.exit(main())
