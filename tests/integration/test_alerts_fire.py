"""Each built-in alert by its fault on real parts: it fires, Alertmanager has it, it resolves.

Real sidecars with stand-in providers and Redis, a real PostgreSQL with search pods and workers,
Debian's Prometheus and Alertmanager, and the rule file of `render --rules`. All faults are caused
together and waited for together, as the shortest range of a rate is a minute.
"""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from embedding_contract import built_in_alerts as table
from tests.fakes import provider
from tests.parts import monitoring, postgres, sidecar
from tests.parts.alert_faults import FAULTS, Fault, Site

pytestmark = pytest.mark.integration

HEALTHY_SECONDS = 20.0
PATIENCE_SECONDS = 240.0
ELSEWHERE = {
    "podsUncovered": "tests/integration/test_uncovered_alert.py: it needs an API server",
    "modelRetires": "tests/integration/test_model_end_alert.py: it needs an API server",
}


class Estate:
    """All sites, one for each alert, and what watches them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.chain = stack.enter_context(monitoring.chain(folder / "monitoring"))
        self.server = stack.enter_context(postgres.running())
        self.server.execute("CREATE EXTENSION vector")
        self.sites = {key: self._site(key, it, folder, stack) for key, it in FAULTS.items()}
        for site in self.sites.values():
            site.sidecar.wait()
        self.chain.prometheus.targets([it for site in self.sites.values() for it in site.targets])
        for site in self.sites.values():
            self.load(site)
        assert self.chain.prometheus.reload()

    def load(self, site: Site) -> None:
        """Write the site's rule file."""
        file = self.chain.prometheus.rule_file(site.name)
        file.write_text(site.rule_file(), encoding="utf-8")

    def go_on(self, do: Callable[[Fault], Callable[[Site], object]], *, seconds: float) -> None:
        """Let applications of all sites do something, side by side, for so long."""
        deadline = time.monotonic() + seconds
        with ThreadPoolExecutor(len(self.sites)) as pool:
            while time.monotonic() < deadline:
                list(pool.map(lambda key: do(FAULTS[key])(self.sites[key]), self.sites))
                time.sleep(0.5)

    def until(
        self,
        do: Callable[[Fault], Callable[[Site], object]],
        true: Callable[[Site], Any],
    ) -> frozenset[str]:
        """The keys of the sites of which it came true while applications went on."""
        came: set[str] = set()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(came) < len(self.sites) and time.monotonic() < deadline:
            self.go_on(do, seconds=1.0)
            came |= {key for key, site in self.sites.items() if key not in came and true(site)}
        return frozenset(came)

    def fires(self, site: Site) -> bool:
        """Whether Prometheus says that this site's alert fires."""
        return any(
            it["labels"].get("policy") == site.name
            for it in self.chain.prometheus.alerts(site.alert.name)
        )

    def is_held(self, site: Site) -> bool:
        """Whether Alertmanager has it as active."""
        return any(
            it["labels"].get("policy") == site.name
            for it in self.chain.alertmanager.alerts(site.alert.name)
        )

    def is_delivered(self, site: Site, status: str) -> bool:
        """Whether the receiver was told, `firing` or `resolved`."""
        return any(
            it["labels"].get("policy") == site.name
            for it in self.chain.receiver.alerts(site.alert.name, status=status)
        )

    def _site(self, key: str, fault: Fault, folder: Path, stack: ExitStack) -> Site:
        own = folder / key
        own.mkdir()
        stand_ins = {name: provider.StandIn() for name in fault.providers}
        urls = {
            name: stack.enter_context(sidecar.served(it.app())) for name, it in stand_ins.items()
        }
        redis = sidecar.Redis(own) if fault.redis else None
        if redis is not None:
            stack.callback(redis.kill)
        site = Site(key, own, urls=urls, stand_ins=stand_ins, redis=redis)
        stack.callback(site.sidecar.stop, signal.SIGTERM, signal.SIGINT)
        if fault.rows:
            kept = site.keep(self.server, own / "index", rows=fault.rows)
            stack.callback(kept.stop)
        fault.prepare(site)
        return site


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    day_left_seconds = 86_400 - time.time() % 86_400
    if day_left_seconds < 900:  # a day that ends meanwhile would fill the quotas again
        time.sleep(day_left_seconds + 1)
    with ExitStack() as stack:
        yield Estate(tmp_path_factory.mktemp("estate"), stack)


@pytest.fixture(scope="module")
def healthy(estate: Estate) -> frozenset[str]:
    """The keys of alerts that fired although nothing was wrong."""
    estate.go_on(lambda fault: fault.healthy, seconds=HEALTHY_SECONDS)
    return frozenset(key for key, site in estate.sites.items() if estate.fires(site))


@pytest.fixture(scope="module")
def fired(estate: Estate, healthy: frozenset[str]) -> tuple[frozenset[str], ...]:
    """The keys of alerts that fired, that Alertmanager had, that were delivered."""
    for key, site in estate.sites.items():
        FAULTS[key].cause(site)
    firing = estate.until(lambda fault: fault.faulty, estate.fires)
    held = estate.until(lambda fault: fault.faulty, estate.is_held)
    delivered = estate.until(
        lambda fault: fault.faulty, lambda site: estate.is_delivered(site, "firing")
    )
    return firing, held, delivered


@pytest.fixture(scope="module")
def resolved(estate: Estate, fired: tuple[frozenset[str], ...]) -> frozenset[str]:
    """The keys of alerts of which the receiver was told that they are over."""
    for key, site in estate.sites.items():
        FAULTS[key].mend(site)
        if FAULTS[key].edits:
            estate.load(site)
    assert estate.chain.prometheus.reload()
    return estate.until(
        lambda fault: fault.mended,
        lambda site: (
            estate.is_delivered(site, "resolved")
            and not estate.fires(site)
            and not estate.is_held(site)
        ),
    )


def test_every_built_in_alert_has_fault_or_reason():
    assert sorted([*FAULTS, *ELSEWHERE]) == sorted(it.key for it in table.BUILT_IN)


@pytest.mark.parametrize("key", FAULTS)
def test_alert_is_silent_without_its_fault(healthy, key):
    assert key not in healthy


@pytest.mark.parametrize("key", FAULTS)
def test_fault_makes_its_alert_fire(fired, key):
    assert key in fired[0]


@pytest.mark.parametrize("key", FAULTS)
def test_alertmanager_has_alert_and_delivers_it(fired, key):
    assert key in fired[1]
    assert key in fired[2]


@pytest.mark.parametrize("key", FAULTS)
def test_alert_resolves_once_its_fault_is_mended(resolved, key):
    assert key in resolved
