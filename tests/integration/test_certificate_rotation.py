"""Two replicas through 100 days: certificate and authority rotate, and each pod gets a sidecar.

The operators live by a clock that is moved; the API server cannot, as Go asks the kernel. So pods
are asked about as the API server would, which verifies by the configuration that it has been told:
the bundle is read from the real one, and the chain is verified at the moved time.
"""

import base64
import http.client
import itertools
import json
import threading
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from cryptography import x509
from cryptography.x509 import verification

from embedding_contract import names
from embedding_operator.injection import certificates, webhook_ca
from embedding_operator.kube import kinds
from tests.parts import admitting, clock, reconciling
from tests.parts.installation import wait

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

DAYS = 100
STEP_DAYS = 10
HOST = f"webhook.{admitting.SYSTEM}.svc"
SECRET = "embedding-operator-webhook"
AUTHORITY_AGE = timedelta(days=2_400)
"""The authority is renewed when a third of ten years is left: 33 days later."""


class Asking:
    """Asks about a pod each second, a replica after the other."""

    def __init__(self, objects, time, replicas, namespace):
        self._objects = objects
        self._time = time
        self._replicas = itertools.cycle(replicas)
        self._namespace = namespace
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.without, self.authorities, self.served, self.asked = [], set(), set(), 0

    def has_asked(self, pods):
        return self.asked >= pods

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _run(self):
        while not self._ended.wait(1):
            self.asked += 1
            try:
                self._ask(next(self._replicas))
            except Exception as error:  # noqa: BLE001 - whatever it is, the pod has no sidecar
                self.without.append(f"day {self._time.ahead_seconds / 86_400:.0f}: {error!r}")

    def _ask(self, replica):
        now = datetime.now(UTC) + timedelta(seconds=self._time.ahead_seconds)
        configuration = self._objects.get(kinds.WEBHOOK, None, admitting.CONFIGURATION)
        (hook,) = configuration["webhooks"]
        bundle = base64.b64decode(hook["clientConfig"]["caBundle"])
        trusted = x509.load_pem_x509_certificates(bundle)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", replica.webhook_port, timeout=3, context=admitting.UNVERIFIED
        )
        try:
            connection.connect()
            shown = connection.sock.getpeercert(binary_form=True)
            assert isinstance(shown, bytes)
            verifier = (
                verification.PolicyBuilder()
                .store(verification.Store(trusted))
                .time(now.replace(tzinfo=None))
                .build_server_verifier(x509.DNSName(HOST))
            )
            verifier.verify(x509.load_der_x509_certificate(shown), [])
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"generateName": "p-", "namespace": self._namespace},
                "spec": {"containers": [admitting.CONTAINER]},
            }
            review = admitting.review_of(pod, namespace=self._namespace)
            connection.request("POST", "/inject", body=json.dumps(review))
            answer = json.loads(connection.getresponse().read())["response"]
        finally:
            connection.close()
        if names.CONTAINER not in base64.b64decode(answer.get("patch", "")).decode():
            self.without.append(str(answer))
        self.authorities |= {it.serial_number for it in trusted}
        self.served.add(shown)


@pytest.fixture
def time(tmp_path):
    return clock.Clock(tmp_path / "clock")


@pytest.fixture
def replicas(api_server, tmp_path, time, namespace):
    objects = reconciling.connect(api_server.kubeconfig)
    made = {it: admitting.Operator(api_server, tmp_path / it) for it in ("one", "other")}
    first = made["one"]
    admitting.lead(api_server, first.webhook_port)
    admitting.open_shop(api_server, namespace)
    api_server("delete", "secret", SECRET, "-n", admitting.SYSTEM, "--ignore-not-found")
    seed(objects)
    # As the chart runs them: the holder of the Lease alone writes the bundle.
    for name, it in made.items():
        it.start(LEADER_ELECTION="true", POD_ID=name, **time.environment)
    wait(lambda: admitting.is_trusted(api_server), "a trusted authority", last=first.log)
    yield objects, list(made.values())
    for it in made.values():
        it.stop()
    api_server("delete", "mutatingwebhookconfiguration", admitting.CONFIGURATION)
    api_server("delete", "secret", SECRET, "-n", admitting.SYSTEM)


def seed(objects):
    """An authority that comes of age on the way, and a certificate of today."""
    now, hosts = datetime.now(UTC), (HOST, f"{HOST}.cluster.local")
    old = certificates.issue(None, hosts=hosts, now=now - AUTHORITY_AGE)
    made = certificates.issue(old, hosts=hosts, now=now)
    values = (made.trusted, made.authority_key, made.certificate, made.key)
    pairs = zip(webhook_ca._KEYS, values, strict=True)
    objects.create(
        kinds.SECRET,
        admitting.SYSTEM,
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": SECRET, "namespace": admitting.SYSTEM},
            "data": {key: base64.b64encode(value).decode() for key, value in pairs},
        },
    )


def walk(replicas, time, namespace, *, step_seconds):
    objects, operators = replicas
    # Two renewals need no more time than they have on the way: kept files are read each 10 s.
    with Asking(objects, time, operators, namespace) as asking:
        for _ in range(DAYS // STEP_DAYS):
            enough = asking.asked + step_seconds
            time.set(ahead_seconds=time.ahead_seconds + STEP_DAYS * 86_400)
            wait(partial(asking.has_asked, enough), "pods")
    logs = "\n".join(it.log() for it in operators)
    assert asking.without == [], logs
    assert len(asking.authorities) == 2, logs
    assert len(asking.served) >= 2, logs
    return asking


def test_no_pod_is_without_sidecar_while_certificates_rotate(replicas, time, namespace, say):
    asking = walk(replicas, time, namespace, step_seconds=5)
    say(
        f"certificate rotation, two replicas, {DAYS} days: {asking.asked} pods, "
        f"{len(asking.without)} without sidecar, {len(asking.served)} certificates, "
        f"{len(asking.authorities)} authorities"
    )


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_no_pod_is_without_sidecar_at_length(replicas, time, namespace, say):
    asking = walk(replicas, time, namespace, step_seconds=60)
    say(f"certificate rotation at length: {asking.asked} pods, {len(asking.without)} without")
