"""All parts of the product and all that they need, each of which can be harmed.

The operator's replicas, sidecars, a search pod; API server, Redis, OpenBao, PostgreSQL, providers.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from dev import cluster
from dev.cluster import records
from embedding_contract import document, names
from embedding_operator import errors
from embedding_operator.kube import kinds
from tests.fakes import provider
from tests.parts import (
    changes,
    charted,
    fault_plan,
    gate,
    postgres,
    reconciling,
    searching,
    secrecy,
    service,
    shipped_roles,
    sidecar,
    skew,
    toxics,
    vault,
)
from tests.parts.api_server import ApiServer
from tests.parts.harms import Harms, Target
from tests.parts.installation import SYSTEM_NAMESPACE, wait
from tests.parts.kubectl import Kubectl

MAIN: Final = "main"
SMALL: Final = "small"
MODEL: Final = "text-embedding-3-small"
SYNC_SECONDS: Final = 1.0
SETTLED_SECONDS: Final = 60.0
AFTERMATH_SECONDS: Final = 30.0
"""A database that was harmed may refuse searches for so long."""
_TIMEOUTS: Final = {"callSeconds": 3, "requestSeconds": 30}
WEBHOOK: Final = "webhook"
"""The way between API server and Service."""
_OPERATORS: Final = ("holder", "other replica")
_API_SERVER: Final = "API server"
KINDS: Final[Mapping[str, Sequence[str]]] = {
    **dict.fromkeys(_OPERATORS, fault_plan.OF_A_PROCESS),
    WEBHOOK: fault_plan.OF_A_NETWORK,
    **dict.fromkeys(
        ("Redis", "Vault", "provider", "PostgreSQL", _API_SERVER), fault_plan.OF_A_PROCESS
    ),
}
"""The kinds of faults of each target."""
Object = dict[str, Any]


class World:
    """All of it, on a cluster of its own; `stack` ends it."""

    def __init__(self, folder: Path, stack: ExitStack, *, small_quota: int) -> None:
        self._folder = folder
        self._stack = stack
        self._small_quota = small_quota
        self.harms = Harms(self._target_of)
        name = f"chaos-{os.getpid()}"
        up = cluster.up(form="control-plane", name=name, owner_pid=os.getpid())
        stack.callback(cluster.down, name)
        self.asked = Kubectl(up.kubeconfig)
        self._cluster = name
        self.objects = reconciling.connect(up.kubeconfig)
        self._toxiproxy = stack.enter_context(toxics.toxiproxy())
        self._targets: dict[str, Target] = {}
        self.gates = {it: self._gate(it) for it in ("a", "b")}
        harmed = self.gates["a"]
        self._targets["provider"] = Target(
            pids=lambda: [harmed.pid],
            kill=harmed.kill,
            start=harmed.start,
            way=self._way("a", harmed.port),
        )
        self._start_stores()
        self._start_operator()
        self.shops = {it: self._shop(it) for it in (MAIN, SMALL)}
        self.changes = changes.Changes(
            self.shops[MAIN], self.objects, server=self.vault, gates=list(self.gates.values())
        )
        self._apply_policies()
        self.pods = {MAIN: self._pods(MAIN, count=3), SMALL: self._pods(SMALL, count=2)}
        self.search = self._searched()

    def _way(self, name: str, upstream: int) -> toxics.Way:
        return toxics.Way(self._toxiproxy, name, upstream)

    def _gate(self, name: str) -> gate.Gate:
        made = gate.Gate(_made(self._folder / name))
        self._stack.callback(made.kill)
        return made

    # --- the parts

    def _start_stores(self) -> None:
        stack, folder = self._stack, self._folder
        redis = sidecar.Redis(_made(folder / "redis"))
        stack.callback(redis.kill)
        way = self._way("redis", redis.port)
        self.redis_url = f"redis://127.0.0.1:{way.port}/0"
        self._targets["Redis"] = Target(
            pids=lambda: [redis.pid], kill=redis.kill, start=redis.start, way=way
        )
        self.vault = vault.Durable(_made(folder / "vault"))
        stack.callback(self.vault.stop)
        self.vault.start()
        way = self._way("vault", int(self.vault.address.rpartition(":")[2]))
        self.vault_address = f"http://127.0.0.1:{way.port}"
        self._targets["Vault"] = Target(
            pids=lambda: [self.vault.pid], kill=self.vault.kill, start=self.vault.start, way=way
        )
        self._database = stack.enter_context(postgres.running())
        way = self._way("postgres", self._database.port)
        self._targets["PostgreSQL"] = Target(
            pids=lambda: _tree(self._database.pid),
            kill=self._database.kill,
            start=self._database.start,
            way=way,
        )

    def _start_operator(self) -> None:
        charted.install(
            self.asked,
            {
                "injection": {"by": "webhook"},
                "resyncSeconds": 10,
                "vault": {
                    "address": self.vault_address,
                    "allowInsecureHTTP": True,
                    "pollSeconds": 10,
                    "allowed": [{"namespace": "*", "mount": "secret", "path": "{{namespace}}/*"}],
                },
            },
        )
        record = records.load(self._cluster)
        assert record is not None
        server = ApiServer(self._cluster)
        api = self._way("api-server", record.ports["api"])
        self._targets[_API_SERVER] = Target(
            pids=lambda: [server.pid], kill=server.stop, start=server.start, way=api
        )
        self.replicas: dict[str, charted.Replica] = {}
        for number in (1, 2):
            name = f"operator-{number}"
            way = self._way(name, api.port)
            made = charted.Replica(self.asked, self._folder / name, name=name, api_port=way.port)
            self.replicas[name] = made
            self._targets[name] = Target(pids=made.pids, kill=made.kill, start=made.revive, way=way)
        self.service = service.Service(list(self.replicas.values()))
        self._stack.callback(self.service.close)
        way = self._way("webhook", self.service.port)
        self._targets[WEBHOOK] = Target(way=way)
        charted.lead_admission(self.asked, way.port)
        wait(self.service.is_sound, "replicas that are ready", last=self._logs)
        trusted = ("get", "mutatingwebhookconfiguration", shipped_roles.CONFIGURATION, "-o", "yaml")
        wait(lambda: "caBundle" in self.asked(*trusted), "a trusted authority", last=self._logs)

    def _shop(self, name: str) -> skew.Shop:
        metadata = {"name": name, "labels": {names.LABEL_INJECTION: "enabled"}}
        self.asked.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        folder = _made(self._folder / f"shop-{name}")
        return skew.Shop(
            self.asked,
            name,
            folder,
            self._stack,
            sync_seconds=SYNC_SECONDS,
            are_injected=False,
        )

    def _apply_policies(self) -> None:
        account = {"name": "embedding-vault", "namespace": MAIN}
        self.asked.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        self.vault.trust(self.asked, namespace=MAIN)
        self.changes.rotate()
        key = {"vault": {"mount": "secret", "path": f"{MAIN}/keys", "key": "KEY"}}
        self._apply(
            MAIN,
            providers=[
                self._provider("a", self._targets["provider"].way.port, apiKey=key),
                self._provider("b", self.gates["b"].port, apiKey=key),
            ],
            vault={"role": "reader"},
            quota={"daily": {"requests": changes.QUOTA}, "onStoreLoss": "Allow"},
            cache={"redis": {"url": self.redis_url}, "ttlSeconds": 600},
        )
        self.shops[SMALL].keys(openai=self.changes.other_keys[0])
        key = {"secretKeyRef": {"name": "keys", "key": "openai"}}
        self._apply(
            SMALL,
            providers=[self._provider("b", self.gates["b"].port, apiKey=key)],
            quota={
                "daily": {"requests": self._small_quota},
                "onStoreLoss": "Deny",
                "redis": {"url": self.redis_url},
            },
            cache={"ttlSeconds": 0},
        )

    def _apply(self, namespace: str, **spec: Any) -> None:
        self.asked.apply(
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "metadata": {"name": skew.POLICY, "namespace": namespace},
                "spec": {
                    "podSelector": {"matchLabels": {"app": "x"}},
                    "alerts": {"enabled": False},
                    **spec,
                },
            }
        )

    def _provider(self, name: str, port: int, **terms: Any) -> Object:
        return {
            "name": name,
            "type": "OpenAI",
            "model": MODEL,
            "baseURL": f"http://127.0.0.1:{port}/v1",
            "timeouts": _TIMEOUTS,
            **terms,
        }

    def _pods(self, name: str, *, count: int) -> list[skew.Pod]:
        found = [self.shops[name].pod(None) for _ in range(count)]
        for it in found:
            self.shops[name].wait_for_document(it)
        return found

    def _searched(self) -> searching.World:
        """A table of one row, and a search pod whose sidecar has the same providers and Redis."""
        server, way = self._database, self._targets["PostgreSQL"].way
        server.execute("CREATE EXTENSION vector")
        server.execute(
            "CREATE TABLE docs (id bigint PRIMARY KEY, body text, bucket int, lang text)"
        )
        server.execute("INSERT INTO docs VALUES (1, 'a question of whales', 1, 'en')")
        ways = {"a": self._targets["provider"].way.port, "b": self.gates["b"].port}
        providers = tuple(
            document.Provider(
                name=name,
                kind="OpenAICompatible",
                model=searching.MODEL,
                base_url=f"http://127.0.0.1:{port}/v1",
                declared_space="tests/small",
                api_key_file=searching.KEY_FILE,
            )
            for name, port in ways.items()
        )
        made = self._stack.enter_context(
            searching.running(
                self._folder / "search",
                server=server,
                provider_url="",
                document=searching.index(),
                policy_changes={
                    "providers": providers,
                    "quota": document.Quota(daily_requests=changes.QUOTA),
                },
            )
        )
        made.pod.apply()
        vector = searching.as_text(
            provider.numbers(searching.MODEL, "a question of whales", searching.DIMENSIONS)
        )
        server.execute("UPDATE docs SET embedding = %s::vector", (vector,))
        searching.switch(server, "public.docs.embedding")
        made.pod.set_dsn(f"postgresql://postgres@127.0.0.1:{way.port}/postgres")
        server.stop()
        server.start()
        sidecar.wait_until(lambda: made.ask({"query": "whales"}).json().get("mode") == "vector")
        return made

    # --- the targets

    def _target_of(self, name: str) -> Target:
        if name not in _OPERATORS:
            return self._targets[name]
        holds = {it: it == self._holder() for it in self.replicas}
        free = [it for it in holds if not self.harms.is_harmed(self._targets[it])]
        return self._targets[max(free, key=lambda it: holds[it] == (name == "holder"))]

    def _holder(self) -> str:
        """The replica in the Lease; empty where the API server does not tell."""
        try:
            lease = self.objects.get(kinds.LEASE, SYSTEM_NAMESPACE, names.LEASE) or {}
        except errors.Unavailable:
            return ""
        identity: str = lease.get("spec", {}).get("holderIdentity") or ""
        return identity.partition("_")[0]

    # --- what is seen of it

    def may_refuse_searches(self, asked_at: float) -> bool:
        """Whether the database was harmed so late that it may still be away."""
        return self.harms.touch(["PostgreSQL"], since=asked_at - AFTERMATH_SECONDS)

    def may_leave_pods_bare(self, asked_at: float) -> bool:
        """Whether a review since then may have got no answer, although some replica is ready.

        The API server sends reviews by the connection that it has, also to a replica that is
        stopped, and finds that out after 45 s (kubernetes/kubernetes#95981); the Service leads new
        connections only. An API server that is stopped while it waits for an answer finds the time
        of the review over when it goes on.
        """
        return self.harms.touch([WEBHOOK], since=asked_at) or self.harms.touch(
            (*_OPERATORS, _API_SERVER), since=asked_at, kind=fault_plan.STOPPED
        )

    def failed_open(self) -> list[str]:
        """The reviews without an answer, as the API server tells of them."""
        record = records.load(self._cluster)
        assert record is not None
        log = (record.log / "apiserver.log").read_text(encoding="utf-8", errors="replace")
        return [line for line in log.splitlines() if "failing open" in line]

    def unsettled(self) -> list[str]:
        """The policies that are not Ready, and the places where the last edit or key is missing."""
        try:
            # First: what is in force is compared with what stands in the cluster afterwards.
            found = [] if self.changes.have_arrived() else ["last change"]
            return found + [it for name in self.shops for it in self._unsettled(name)]
        except errors.Unavailable as error:
            return [str(error)]

    def is_settled(self) -> bool:
        """True if both policies are Ready, and the last edit and the last key are in force."""
        return not self.unsettled()

    def _unsettled(self, name: str) -> list[str]:
        shop = self.shops[name]
        ready = shop.condition("Ready")
        found = [] if ready.get("status") == "True" else [f"{name}: {ready.get('reason')}"]
        for it in self.pods[name]:
            found += [] if shop.obeys(it) else [f"{it.name}: document"]
            found += [] if shop.has_secrets(it) else [f"{it.name}: secrets"]
        return found

    def told(self) -> str:
        """The state of both policies and the ends of the logs, for a failure."""
        state = {name: it.status().get("conditions") for name, it in self.shops.items()}
        return f"{self.unsettled()}\n{json.dumps(state, indent=1)}\n{self._logs()}"

    def _logs(self) -> str:
        return "\n".join(f"--- {it.name}\n{it.log()[-3000:]}" for it in self.replicas.values())

    def small_billed(self) -> int:
        """Requests of the small policy that providers answered with vectors, on its busiest day."""
        key = gate.fingerprint(self.changes.other_keys[0])
        days: dict[int, int] = {}
        for it in self.gates.values():
            for line in it.lines():
                if line["status"] == 200 and line["key"] == key:
                    day = int(line["time"] // 86_400)
                    days[day] = days.get(day, 0) + 1
        return max(days.values(), default=0)

    def leaks(self) -> list[str]:
        """The places with a key or a token that stand where no secret may."""
        secrets = secrecy.Secrets(self.changes.keys)
        secrets.add(*self.changes.other_keys, *(it.token() for it in self.shops.values()))
        places = list(secrecy.in_objects(self.asked, "-A", kinds=secrecy.SPOKEN))
        return secrets.find([*places, *secrecy.in_files(self._folder)])


def _tree(pid: int) -> list[int]:
    """A process and its children, which do not have children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [pid, *map(int, children.split())]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
