"""Two policies at work under a real Prometheus: real sidecars, a real Redis, stand-in providers.

Policy shop/search has two pods, OpenAI first and Voyage as a backup of another space; shop/catalog
has one pod, Voyage alone, and a quota of a few calls. The operator's series are those of its own
`Metrics`, told what a reconcile would tell.
"""

import itertools
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embedding_contract import document, names
from embedding_operator import listener, metrics
from tests.fakes import provider
from tests.parts import monitoring, ports, sidecar

NAMESPACE: Final = "shop"
PODS: Final = ("search-7c9d5-abcde", "search-7c9d5-fghij", "catalog-59f4b-klmno")
CATALOG_CALLS: Final = 40
SEARCH_CALLS: Final = 5000
_WORDS: Final = tuple(f"word{number}" for number in range(12))
_LONG: Final = "word " * 2000
"""A chapter: a word is a token of the stand-in."""
_KEY: Final = names.secret_provider_key("key")
_REDIS: Final = names.SECRET_CACHE_REDIS_URL


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All of it, running. `search` are the two pods of one policy, `catalog` the other's pod."""

    prometheus: monitoring.Prometheus
    search: tuple[sidecar.Sidecar, sidecar.Sidecar]
    catalog: sidecar.Sidecar
    openai: provider.StandIn
    voyage: provider.StandIn
    operator: metrics.Metrics

    def every_path(self) -> None:
        """Miss, hits in both layers, refusals, failover, an open breaker, a used-up quota."""
        one, other = self.search
        one.embed("a text", "another text")
        one.embed("a text")
        sidecar.wait_until(lambda: other.embed("a text").headers["x-embedding-cache"] == "hit")
        one.embed("too long")
        self.openai.fault = provider.status(500)
        for number in range(5):
            one.embed(f"while the first choice fails {number}")
        self.openai.fault = None
        self.catalog.embed("the first item", model="voyage-3.5")
        # Prometheus counts an increase from the first value of a series that it has seen.
        seen = 'aos_embedding_tokens_total{policy="catalog"}'
        sidecar.wait_until(lambda: self.prometheus.query(seen))
        for number in range(CATALOG_CALLS + 2):
            self.catalog.embed(f"item {number}", model="voyage-3.5")
        self.operate()

    def operate(self) -> None:
        """What an operator tells: reconciles, injections, Vault, repairs, restarts."""
        self.operator.reconciled(result="ok", seconds=0.03)
        self.operator.reconciled(result="failed", seconds=0.9)
        self.operator.injected(result="injected", reason="")
        self.operator.injected(result="skipped", reason="HostNetwork")
        self.operator.drifted("ConfigMap")
        self.operator.vault_asked("ok")
        self.operator.sidecar_asked("ok")
        self.operator.monitoring_asked("prometheus", "ok")
        self.operator.skipped("ConfigMap", 1)
        self.operator.restarted("Deployment")
        self.operator.queued(0)
        self.operator.uncovered(NAMESPACE, "catalog", 1)

    def traffic(self, seconds: float) -> None:
        """Applications that ask more and less, a provider that fails for a while in between."""
        began, numbers = time.monotonic(), itertools.count()
        while (passed := time.monotonic() - began) < seconds:
            is_failing = 0.45 < passed / seconds < 0.6
            self.openai.fault = provider.status(503) if is_failing else None
            self.openai.delay_seconds = random.uniform(0.03, 0.12)
            self.voyage.delay_seconds = random.uniform(0.05, 0.25)
            for asked in self.search:
                # A few texts are asked for again and again, as in a real shop.
                known = random.choices(_WORDS, k=4)
                asked.embed(*known, f"text {next(numbers)} {_LONG}")
            if random.random() < 0.6:
                self.catalog.embed(f"item {next(numbers)} {_LONG}", model="voyage-3.5")
            if random.random() < 0.05:
                self.search[0].embed("too long")
            self.operate()
            time.sleep(0.35 + 0.3 * math.sin(passed / seconds * 2 * math.pi))
        self.openai.fault = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What sidecars live beside: stand-in providers at their URLs, and a Redis."""

    openai_url: str
    voyage_url: str
    redis_url: str


@contextmanager
def running(folder: Path) -> Iterator[Run]:
    """Start everything, with files and logs below a folder, and end it afterwards."""
    with ExitStack() as stack:
        openai, voyage = provider.StandIn(), provider.StandIn()
        openai_url = stack.enter_context(sidecar.served(openai.app()))
        voyage_url = stack.enter_context(sidecar.served(voyage.app()))
        (folder / "redis").mkdir(parents=True)
        redis = sidecar.Redis(folder / "redis")
        stack.callback(redis.kill)
        parts = Parts(
            openai_url=f"{openai_url}/v1",
            voyage_url=f"{voyage_url}/voyage/v1",
            redis_url=redis.url,
        )
        files = {policy: _documents(folder, policy, parts) for policy in ("search", "catalog")}
        pods = {}
        for pod in PODS:
            started = sidecar.Sidecar(
                *files[policy_of(pod)],
                environment={names.ENV_POD_UID: pod},
                log=folder / f"{pod}.log",
            )
            stack.callback(started.stop)
            pods[pod] = started.wait()
        operator, operator_port = metrics.Metrics(), ports.free()
        operator.watch_up(names.PLURAL, lambda: True)
        operator.watch_oldest(lambda: 0.0)
        listener.Listener(
            port=operator_port, pages={names.PATH_METRICS: operator.page}, name="metrics"
        ).start()
        prometheus = monitoring.Prometheus(folder / "prometheus")
        stack.callback(prometheus.close)
        targets = [
            monitoring.Target(
                address=f"127.0.0.1:{it.admin_port}",
                labels={"namespace": NAMESPACE, "policy": policy_of(pod), "pod": pod},
            )
            for pod, it in pods.items()
        ]
        own = monitoring.Target(address=f"127.0.0.1:{operator_port}", labels={"job": "operator"})
        prometheus.targets([*targets, own])
        sidecar.wait_until(lambda: prometheus.up() == len(targets) + 1)
        one, other, last = pods.values()
        yield Run(
            prometheus=prometheus,
            search=(one, other),
            catalog=last,
            openai=openai,
            voyage=voyage,
            operator=operator,
        )


def policy_of(pod: str) -> str:
    """The policy of one of PODS."""
    return pod.partition("-")[0]


def _documents(folder: Path, policy: str, parts: Parts) -> Sequence[str | Path]:
    first = document.Provider(
        name="openai",
        kind="OpenAI",
        model="text-embedding-3-small",
        base_url=parts.openai_url,
        api_key_file=_KEY,
    )
    backup = document.Provider(
        name="voyage",
        kind="Voyage",
        model="voyage-3.5",
        base_url=parts.voyage_url,
        api_key_file=_KEY,
    )
    calls = {"search": SEARCH_CALLS, "catalog": CATALOG_CALLS}
    made = document.PolicyDocument(
        namespace=NAMESPACE,
        name=policy,
        providers=(first, backup) if policy == "search" else (backup,),
        failover=document.Failover(across_spaces=policy == "search"),
        quota=document.Quota(daily_requests=calls[policy], redis_url_file=_REDIS),
        cache=document.Cache(redis_url_file=_REDIS),
    )
    secrets = {
        _KEY: provider.KEY,
        _REDIS: parts.redis_url,
        names.SECRET_API_TOKEN: sidecar.TOKEN,
    }
    return _files(folder / policy, document.dump(made), secrets)


def _files(folder: Path, text: str, secrets: Mapping[str, str]) -> Sequence[str | Path]:
    """The two mounted directories, as a sidecar is told of them."""
    (folder / "secrets").mkdir(parents=True)
    (folder / names.DOCUMENT_KEY).write_text(text, encoding="utf-8")
    for name, value in secrets.items():
        (folder / "secrets" / name).write_text(value, encoding="utf-8")
    return ("--document", folder / names.DOCUMENT_KEY, "--secrets", folder / "secrets")
