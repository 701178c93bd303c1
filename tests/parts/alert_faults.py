"""The fault behind each built-in alert, caused and mended on a real sidecar with real parts."""

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from embedding_contract import built_in_alerts as table
from embedding_contract import document, names
from embedding_contract.index_document import Target
from embedding_operator.cli import preview
from embedding_operator.policy import crd_schema, policy
from tests.fakes import provider
from tests.parts import kept, monitoring, postgres, sidecar

NAMESPACE: Final = "shop"
MODEL: Final = "text-embedding-3-small"
DIMENSIONS: Final = 8
SPACE: Final = "one"
AT_ONCE: Final = "1s"
_KNOWN: Final = "a text that is asked for again and again"


class Site:
    """One policy, the sidecar that obeys it, and stand-ins as its providers."""

    def __init__(
        self,
        key: str,
        folder: Path,
        *,
        urls: Mapping[str, str],
        stand_ins: Mapping[str, provider.StandIn],
        redis: sidecar.Redis | None,
    ) -> None:
        self.alert = next(it for it in table.BUILT_IN if it.key == key)
        self.name = key.lower()
        self.stand_ins = stand_ins
        self.redis = redis
        self.table: kept.Table | None = None
        self.spec: dict[str, Any] = {
            "podSelector": {},
            "providers": [_provider(name, url) for name, url in urls.items()],
            "quota": {"unlimited": True},
            "alerts": {"rules": {it.key: {"enabled": it.key == key} for it in table.BUILT_IN}},
        }
        self.rule(**{"for": AT_ONCE})
        if redis is not None:
            self.spec["cache"] = {"redis": {"url": redis.url}}
        self._document = folder / names.DOCUMENT_KEY
        self._secrets = folder / "secrets"
        self._secrets.mkdir(parents=True)
        self._texts = itertools.count()
        self.apply()
        self.secret(names.SECRET_API_TOKEN, sidecar.TOKEN)
        for name in urls:
            self.secret(names.secret_provider_key(name), provider.KEY)
        if redis is not None:
            self.secret(names.SECRET_CACHE_REDIS_URL, redis.url)
        self.sidecar = sidecar.Sidecar(
            *("--document", self._document, "--secrets", self._secrets),
            environment={},
            log=folder / "sidecar.log",
        )

    @property
    def policy(self) -> policy.EmbeddingPolicy:
        """The policy as the operator reads it."""
        metadata = {"namespace": NAMESPACE, "name": self.name}
        raw = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata}
        return policy.parse(crd_schema.admit({**raw, "spec": self.spec}))

    @property
    def targets(self) -> list[monitoring.Target]:
        """Its sidecar and pods of its index, with the labels that a PodMonitor would give them."""
        labels = {"namespace": NAMESPACE, "policy": self.name, "pod": "pod-1", "workload": "web"}
        address = f"127.0.0.1:{self.sidecar.admin_port}"
        own = monitoring.Target(address=address, labels=labels)
        return [own, *(self.table.targets if self.table is not None else ())]

    def rule(self, **changes: Any) -> None:
        """Change the alert's entry in `spec.alerts.rules`."""
        self.spec["alerts"]["rules"][self.alert.key].update(changes)

    def rule_file(self) -> str:
        """The rule file, as `embedding-operator render --rules` prints it."""
        return preview.rule_file([self.policy])

    def apply(self, text: str | None = None) -> None:
        """Swap the document in one step, as kubelet does."""
        if text is None:
            indexes = () if self.table is None else (self.table.served,)
            text = document.dump(policy.to_document(self.policy, indexes=indexes))
        _swap(self._document, text)

    def secret(self, name: str, value: str) -> None:
        """Swap a secret's file."""
        _swap(self._secrets / name, value)

    def keep(self, server: postgres.Postgres, folder: Path, *, rows: int) -> kept.Table:
        """From now on a table of so many rows is searched, which no worker fills yet."""
        self.sidecar.wait()
        target = Target(model=MODEL, dimensions=DIMENSIONS, space=SPACE, column="embedding")
        self.table = kept.Table(
            folder,
            server=server,
            policy=(NAMESPACE, self.name),
            sidecar_port=self.sidecar.port,
            target=target,
        )
        self.table.insert(rows)
        self.apply()
        return self.table

    def search(self) -> dict[str, Any]:
        """Search for what nobody has searched for; the answer."""
        query = f"text {next(self._texts)} of {self.name}"
        answer = self.sidecar.http.post(names.PATH_SEARCH, json={"query": query, "k": 1})
        found: dict[str, Any] = answer.json()
        return found

    def ask(self, times: int = 1, *, known: bool = False) -> None:
        """Ask for texts, new ones or the known one; refusals are part of the fault."""
        for _ in range(times):
            text = _KNOWN if known else f"text {next(self._texts)} of {self.name}"
            self.sidecar.embed(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How an alert comes to fire, and to resolve.

    `prepare` comes before everything; `healthy`, `faulty` and `mended` are what applications do in
    each phase, again and again. `edits`: mending changes the rule file. `rows` are those of a table
    that the site's index keeps embedded; without them there is no index.
    """

    cause: Callable[[Site], object]
    mend: Callable[[Site], object]
    prepare: Callable[[Site], object] = lambda _: None
    healthy: Callable[[Site], object] = lambda site: site.ask(known=True)
    faulty: Callable[[Site], object] = lambda site: site.ask()
    mended: Callable[[Site], object] = lambda site: site.ask(2)
    providers: tuple[str, ...] = ("main",)
    redis: bool = False
    edits: bool = field(default=False)
    rows: int = 0


def _quota(requests: int) -> Callable[[Site], None]:
    def edit(site: Site) -> None:
        site.spec["quota"] = {"daily": {"requests": requests}}
        site.apply()

    return edit


def _fails(*names_: str, code: int = 500) -> Callable[[Site], None]:
    def cause(site: Site) -> None:
        for name in names_:
            site.stand_ins[name].fault = provider.status(code)

    return cause


def _works(site: Site) -> None:
    for stand_in in site.stand_ins.values():
        stand_in.fault = None
        stand_in.delay_seconds = 0.0


def _delay(seconds: float) -> Callable[[Site], None]:
    def cause(site: Site) -> None:
        for stand_in in site.stand_ins.values():
            stand_in.delay_seconds = seconds

    return cause


def _new_key(site: Site) -> None:
    """The provider takes another key from now on, and the policy's Secret gets it."""
    site.secret(names.secret_provider_key("main"), "sk-another")


def _refuse_key(site: Site) -> None:
    site.stand_ins["main"].key = "sk-another"


def _known(times: int) -> Callable[[Site], None]:
    return lambda site: site.ask(times, known=True)


def _nothing(_: Site) -> None:
    """Applications ask for nothing."""


def _redis(site: Site) -> sidecar.Redis:
    assert site.redis is not None
    return site.redis


def _price(site: Site) -> None:
    site.spec["providers"][0]["pricePerMillionTokens"] = "1000"
    site.rule(threshold="0.01")
    site.apply()


def _nearly(site: Site) -> None:
    site.rule(threshold=50)
    _quota(20)(site)


def _unreadable(site: Site) -> None:
    site.apply(json.dumps({"version": document.VERSION, "requires": ["a feature of tomorrow"]}))


def _table(site: Site) -> kept.Table:
    assert site.table is not None
    return site.table


def _filled_and_searched(site: Site) -> None:
    _table(site).fill()
    sidecar.wait_until(lambda: site.search().get("mode") == "vector")


def _being_filled(site: Site) -> None:
    """A worker that needs minutes, as its provider takes a second for four rows."""
    _delay(1.0)(site)
    table = _table(site)
    table.start_worker()
    sidecar.wait_until(lambda: table.pod.metrics()["aos_vector_index_size"] > 0)


def _filled_after_all(site: Site) -> None:
    _works(site)
    _table(site).start_worker()


FAULTS: Final[Mapping[str, Fault]] = {
    "quotaNearlyExhausted": Fault(
        prepare=_nearly,
        cause=lambda site: site.ask(12),
        mend=_quota(1000),
        faulty=_nothing,
        mended=_nothing,
    ),
    "quotaExhausted": Fault(
        prepare=_quota(5),
        cause=lambda site: site.ask(6),
        mend=_quota(1000),
        mended=_nothing,
    ),
    "quotaWillNotLast": Fault(
        prepare=_quota(500),
        cause=_nothing,
        mend=_quota(10**9),
        mended=_nothing,
    ),
    "costHigh": Fault(
        prepare=_price,
        cause=lambda site: site.ask(5),
        # What was spent stays spent: who finds it right raises the threshold.
        mend=lambda site: site.rule(threshold="1000.00"),
        mended=_nothing,
        edits=True,
    ),
    "providerFailing": Fault(cause=_fails("main"), mend=_works),
    "failedOver": Fault(
        providers=("main", "spare"), cause=_fails("main"), mend=_works, mended=_known(1)
    ),
    "keyRefused": Fault(cause=_refuse_key, mend=_new_key),
    "errorRateHigh": Fault(cause=_fails("main"), mend=_works),
    "latencyHigh": Fault(
        prepare=lambda site: site.rule(threshold=1), cause=_delay(1.5), mend=_works
    ),
    "hitRateCollapsed": Fault(healthy=_known(20), cause=_nothing, mend=_nothing, mended=_known(5)),
    "redisAway": Fault(
        redis=True,
        cause=lambda site: _redis(site).kill(),
        mend=lambda site: _redis(site).start(),
    ),
    "configNotInForce": Fault(
        cause=_unreadable, mend=lambda site: site.apply(), faulty=_known(1), mended=_known(1)
    ),
    "searchFallingBack": Fault(
        rows=8,
        prepare=_filled_and_searched,
        healthy=Site.search,
        cause=_fails("main"),
        faulty=Site.search,
        mend=_works,
        mended=Site.search,
    ),
    "backfillStalled": Fault(
        rows=800,
        prepare=_being_filled,
        healthy=_nothing,
        cause=lambda site: _table(site).kill_worker(),
        faulty=_nothing,
        mend=_filled_after_all,
        mended=_nothing,
    ),
}
"""By the alert's key. What needs a cluster is not among them."""


def _provider(name: str, url: str) -> dict[str, Any]:
    key = {"secretKeyRef": {"name": "keys", "key": name}}
    return {
        "name": name,
        "type": "OpenAI",
        "model": MODEL,
        "baseURL": f"{url}/v1",
        "dimensions": DIMENSIONS,
        "space": SPACE,
        "apiKey": key,
    }


def _swap(file: Path, text: str) -> None:
    new = file.with_name("..new")
    new.write_text(text, encoding="utf-8")
    new.replace(file)
