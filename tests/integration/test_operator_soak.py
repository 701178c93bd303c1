"""An operator that reconciles edits for long holds no more than before, and loses no watch."""

import itertools
import re
import time
from functools import partial

import pytest

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.kube import kinds
from tests.parts import footprint, operating, policies, reconciling, sidecar
from tests.parts import vault as real

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

POLICIES = 50
EDITS_A_SECOND = 2
SAMPLE_SECONDS = 5.0
SHORT_SECONDS, SHORT_WARM_SECONDS = 60.0, 20.0
SOAK_SECONDS, WARM_SECONDS = 6_000.0, 1_200.0
MOST_GROWTH = 0.02
"""Of resident memory after the warm-up, in the long form."""
WATCH_UP = re.compile(r'^embedding_operator_watch_up\{kind="([^"]+)"\} (\S+)$', re.MULTILINE)


class Policies:
    """Policies with a Secret from Vault each, whose quota is edited in turn."""

    def __init__(self, objects, namespace):
        self._objects = objects
        self._namespace = namespace
        self._numbers = itertools.count(1)
        for name in self.names():
            spec = {
                "podSelector": {},
                "providers": [policies.compatible("e5")],
                "secrets": [
                    {
                        "name": f"app-{name}",
                        "vault": {"mount": "secret", "path": f"{namespace}/app"},
                    }
                ],
            }
            body = {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "metadata": {"name": name},
                "spec": spec,
            }
            objects.create(kinds.POLICY, namespace, body)

    @staticmethod
    def names():
        return [f"policy-{number}" for number in range(POLICIES)]

    def edit(self):
        """Give the next policy another quota."""
        number = next(self._numbers)
        self._edit(self.names()[number % POLICIES], number)

    def edit_all(self):
        """Give each policy a quota; the number that all have."""
        number = next(self._numbers)
        for name in self.names():
            self._edit(name, number)
        return number

    def _edit(self, name, number):
        def is_sent():
            live = self._objects.get(kinds.POLICY, self._namespace, name)
            live["spec"]["quota"] = {"daily": {"requests": number}}
            try:
                self._objects.replace(kinds.POLICY, self._namespace, live)
            except errors.Conflict:  # its status was written meanwhile
                return False
            return True

        sidecar.wait_until(is_sent)

    def in_documents(self):
        """The quotas that the documents have."""
        found = self._objects.find(kinds.CONFIG_MAP, self._namespace)
        texts = [it["data"][names.DOCUMENT_KEY] for it in found if names.DOCUMENT_KEY in it["data"]]
        return [int(it) for text in texts for it in re.findall(r'"requests": ?(\d+)', text)]

    def take_away(self):
        """Delete one object of each kind that the operator writes, as somebody else would."""
        name = self.names()[0]
        taken = [
            ("ConfigMap", names.document_configmap(name)),
            ("Secret", names.owned_secret(name)),
            ("Secret", f"app-{name}"),
        ]
        for kind, called in taken:
            live = self._objects.get(kinds.KINDS[kind], self._namespace, called)
            self._objects.delete({"kind": kind, **live})
        return taken


def soak(api_server, namespace, folder, *, seconds, warm_seconds, say):
    """The growth of the operator's memory, by its share, after everything else was checked."""
    objects = reconciling.connect(api_server.kubeconfig)
    with real.running(folder / "vault") as server:
        server.write(f"{namespace}/app", TOKEN="token-of-the-soak")
        operator = operating.Operator(folder / "operator", api_server.kubeconfig, server)
        made = Policies(objects, namespace)
        try:
            operator.start()
            seen: list[footprint.Footprint] = []
            began, edits = time.monotonic(), 0
            while (passed := time.monotonic() - began) < seconds:
                if edits < passed * EDITS_A_SECOND:
                    made.edit()
                    edits += 1
                if passed >= len(seen) * SAMPLE_SECONDS:
                    seen.append(footprint.Footprint.of(operator.pid, seconds=passed))
                    watches = dict(WATCH_UP.findall(operator.metrics()))
                    assert watches
                    assert set(watches.values()) == {"1.0"}, (passed, watches)
                time.sleep(0.05)  # the pace of the edits
            wanted = made.edit_all()
            sidecar.wait_until(lambda: made.in_documents().count(wanted) == POLICIES, seconds=180)
            for kind, name in made.take_away():
                look = partial(objects.get, kinds.KINDS[kind], namespace, name)
                sidecar.wait_until(look, seconds=180)
        finally:
            operator.stop()
    grown = {
        word: footprint.growth(seen, after_seconds=warm_seconds, word=word)
        for word in ("rss_kib", "descriptors", "threads")
    }
    last = seen[-1]
    say(
        f"operator, {POLICIES} policies and {edits} edits in {seconds:.0f} s: RSS"
        f" {last.rss_kib / 1024:.1f} MiB, {grown['rss_kib']:+.1%} after the first"
        f" {warm_seconds:.0f} s; {last.descriptors} descriptors, {last.threads} threads;"
        f" {len(watches)} watches up all the time"
    )
    return grown


@pytest.mark.timeout(600)
def test_operator_keeps_its_watches_under_edits(api_server, namespace, tmp_path, say):
    soak(
        api_server,
        namespace,
        tmp_path,
        seconds=SHORT_SECONDS,
        warm_seconds=SHORT_WARM_SECONDS,
        say=say,
    )


@pytest.mark.soak
@pytest.mark.timeout(2 * 3_600)
def test_operator_holds_no_more_after_long_time(api_server, namespace, tmp_path, say):
    grown = soak(
        api_server,
        namespace,
        tmp_path,
        seconds=SOAK_SECONDS,
        warm_seconds=WARM_SECONDS,
        say=say,
    )
    assert grown["rss_kib"] <= MOST_GROWTH
    assert grown["descriptors"] <= 0
    assert grown["threads"] <= 0
