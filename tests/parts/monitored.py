"""Two policies at work under a real Prometheus: real sidecars, a real Redis, stand-in providers.

Policy shop/search has two pods, OpenAI first and Voyage as a backup of another space, and an index
over a table in PostgreSQL, whose pods ask the first one's sidecar; shop/catalog has one pod, Voyage
alone, and a quota of a few calls. Both have limits in money. The operator's series are those of its
own `Metrics`, told what a reconcile would tell.
"""

import itertools
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from embedding_contract import document, money, names, provider_terms
from embedding_contract.index_document import Target
from embedding_operator import metrics
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.serving import listener
from tests.fakes import provider
from tests.parts import kept, monitoring, ports, postgres, sidecar

NAMESPACE: Final = "shop"
PODS: Final = ("search-7c9d5-abcde", "search-7c9d5-fghij", "catalog-59f4b-klmno")
CATALOG_CALLS: Final = 40
SEARCH_CALLS: Final = 5000
MODEL: Final = "text-embedding-3-small"
RETIRES: Final = 1_827_619_200.0
"""2027-12-01, in Unix time."""
FIRST_ROWS: Final = 8
MORE_ROWS: Final = 3000
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
    table: kept.Table
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
        self.keep_embedded()

    def keep_embedded(self) -> None:
        """A search by vectors, one without, and a worker that needs a minute or two."""
        self.table.insert(FIRST_ROWS)
        self.table.fill()
        sidecar.wait_until(lambda: self.find("a text")["mode"] == "vector")
        self.openai.fault = self.voyage.fault = provider.status(500)
        assert self.find("a text that nobody has asked for")["reason"] == "provider"
        self.openai.fault = self.voyage.fault = None
        self.openai.delay_seconds = 0.2
        self.table.insert(MORE_ROWS)
        self.table.start_worker()

    def find(self, query: str) -> dict[str, Any]:
        """The answer to a search, as an application asks its sidecar."""
        answer = self.search[1].http.post(names.PATH_SEARCH, json={"query": query, "k": 3})
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

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
        self.operator.uncovered(ObjectKey(NAMESPACE, "catalog"), 1)
        self.operator.retires(ObjectKey(NAMESPACE, "catalog"), {("voyage", "voyage-3.5"): RETIRES})

    def traffic(self, seconds: float) -> None:
        """Applications that ask more and less, a provider that fails for a while in between.

        Rows come twice, and a worker for them a little later.
        """
        began, numbers = time.monotonic(), itertools.count()
        arrivals = [(0.08, int(12 * seconds)), (0.65, int(6 * seconds))]
        while (passed := time.monotonic() - began) < seconds:
            is_failing = 0.45 < passed / seconds < 0.6
            self.openai.fault = provider.status(503) if is_failing else None
            self.openai.delay_seconds = random.uniform(0.03, 0.12)
            self.voyage.delay_seconds = random.uniform(0.05, 0.25)
            for asked in self.search:
                # A few texts are asked for again and again, as in a real shop.
                known = random.choices(_WORDS, k=4)
                asked.embed(*known, f"text {next(numbers)} {_LONG}")
            if arrivals and passed / seconds > arrivals[0][0]:
                self.table.insert(arrivals.pop(0)[1])
                self.table.start_worker()
            self.find(random.choice((random.choice(_WORDS), f"question {next(numbers)}")))
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
        one, other, last = pods.values()
        table = stack.enter_context(_table(folder / "index", one))
        _swap(folder / "search", _document("search", parts, indexes=(table.served,)))
        operator, operator_port = metrics.Metrics(), ports.free()
        operator.watch_up(names.PLURAL, lambda: True)
        operator.watch_silence(names.PLURAL, lambda: 1.0)
        operator.watch_lease(lambda: True)
        operator.definition_lacks(names.PLURAL, 0)
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
        prometheus.targets([*targets, *table.targets, own])
        # All but the worker's, which does not run yet.
        sidecar.wait_until(lambda: prometheus.up() == len(targets) + 2)
        yield Run(
            prometheus=prometheus,
            search=(one, other),
            catalog=last,
            table=table,
            openai=openai,
            voyage=voyage,
            operator=operator,
        )


def policy_of(pod: str) -> str:
    """The policy of one of PODS."""
    return pod.partition("-")[0]


@contextmanager
def _table(folder: Path, asked: sidecar.Sidecar) -> Iterator[kept.Table]:
    """An empty table of policy search; its pods ask this sidecar."""
    space = asked.embed("a text of the table's space").headers["x-embedding-space"]
    target = Target(model=MODEL, dimensions=provider.DIMENSIONS, space=space, column="embedding")
    with postgres.running() as server:
        server.execute("CREATE EXTENSION vector")
        table = kept.Table(
            folder,
            server=server,
            policy=(NAMESPACE, "search"),
            sidecar_port=asked.port,
            target=target,
        )
        try:
            yield table
        finally:
            table.stop()


def _documents(folder: Path, policy: str, parts: Parts) -> Sequence[str | Path]:
    secrets = {
        _KEY: provider.KEY,
        _REDIS: parts.redis_url,
        names.SECRET_API_TOKEN: sidecar.TOKEN,
    }
    return _files(folder / policy, _document(policy, parts), secrets)


def _document(policy: str, parts: Parts, *, indexes: tuple[document.Index, ...] = ()) -> str:
    first = document.Provider(
        name="openai",
        kind="OpenAI",
        model=MODEL,
        base_url=parts.openai_url,
        api_key_file=_KEY,
        price_per_million_tokens="0.02",
    )
    backup = document.Provider(
        name="voyage",
        kind="Voyage",
        model="voyage-3.5",
        base_url=parts.voyage_url,
        api_key_file=_KEY,
        price_per_million_tokens="0.06",
        rate=provider_terms.Rate(requests_per_minute=100_000),
    )
    calls = {"search": SEARCH_CALLS, "catalog": CATALOG_CALLS}
    made = document.PolicyDocument(
        namespace=NAMESPACE,
        name=policy,
        providers=(first, backup) if policy == "search" else (backup,),
        failover=document.Failover(across_spaces=policy == "search"),
        quota=document.Quota(
            daily_requests=calls[policy],
            redis_url_file=_REDIS,
            # Policy search is over its month from the second call on, which it only observes.
            monthly_requests=1 if policy == "search" else None,
            monthly_cost=25 * money.NANOS_PER_DOLLAR,
            observes=policy == "search",
        ),
        cache=document.Cache(redis_url_file=_REDIS),
        indexes=indexes,
    )
    return document.dump(made)


def _files(folder: Path, text: str, secrets: Mapping[str, str]) -> Sequence[str | Path]:
    """The two mounted directories, as a sidecar is told of them."""
    (folder / "secrets").mkdir(parents=True)
    _swap(folder, text)
    for name, value in secrets.items():
        (folder / "secrets" / name).write_text(value, encoding="utf-8")
    return ("--document", folder / names.DOCUMENT_KEY, "--secrets", folder / "secrets")


def _swap(folder: Path, text: str) -> None:
    """Put a document in force, as kubelet does."""
    new = folder / "..new"
    new.write_text(text, encoding="utf-8")
    new.replace(folder / names.DOCUMENT_KEY)
