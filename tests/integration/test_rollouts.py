"""Workloads that read synced Secrets from their environment, on a real API server."""

import json
from typing import Any

import pytest
import yaml

from embedding_contract import names
from embedding_operator.controller import rollouts
from embedding_operator.kube import client, kinds
from tests.parts import kubectl, read_through, reconciling
from tests.parts.installation import wait

pytestmark = pytest.mark.cluster

KINDS: dict[str, dict[str, Any]] = {
    "Deployment": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}}},
    "StatefulSet": {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}},
    "DaemonSet": {"updateStrategy": {"type": "OnDelete"}},
}
DATABASE, QUEUE = "secret/shop/database", "secret/shop/queue"
OLD, NEW = b"the-old-value-of-database", b"the-new-value-of-database"
POLICY: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "search"},
    "spec": {
        "podSelector": {},
        "providers": [
            {
                "name": "own",
                "type": "OpenAICompatible",
                "model": "m",
                "baseURL": "http://models/v1",
            }
        ],
        "secrets": [
            {"name": "database", "vault": {"mount": "secret", "path": "shop/database"}},
            {"name": "queue", "vault": {"mount": "secret", "path": "shop/queue"}},
        ],
    },
}


def workload(kind="Deployment", name="app", *, asked="true", secret="database", **spec):
    reference = {"name": secret, "key": "PASSWORD"}
    container = {
        "name": "app",
        "image": "app:1",
        "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": reference}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "annotations": {names.ANNOTATION_RESTART: asked}},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": {"theirs": "stays"}},
                "spec": {"containers": [container]},
            },
            **KINDS[kind],
            **spec,
        },
    }


class Shop:
    """A namespace with a policy that syncs two Secrets, and its workloads."""

    def __init__(self, user: kubectl.Kubectl, namespace: str) -> None:
        self.user = user
        self.namespace = namespace
        self.objects = reconciling.connect(user.kubeconfig)
        self.run = reconciling.Reconciling(self.objects, namespace)
        self.run.store.paths = {DATABASE: {"PASSWORD": OLD}, QUEUE: {"PASSWORD": OLD}}
        self.apply(POLICY)
        self.run("search")

    def __call__(self, *arguments: str) -> str:
        return self.user(*arguments, "-n", self.namespace)

    def apply(self, *objects):
        placed = {"namespace": self.namespace}
        self.user.apply(*({**it, "metadata": {**it["metadata"], **placed}} for it in objects))

    def get(self, what="deployment/app"):
        return self.user.get(what, "-n", self.namespace)

    def rotate(self, path=DATABASE, value=NEW):
        """A new value is synced; the time to settle is not over."""
        self.run.store.paths[path] = {"PASSWORD": value}
        return self.run("search")

    def replica_sets(self):
        """How many templates the deployment has had, once its controller has seen the newest."""

        def is_seen():
            found = self.get()
            return found.get("status", {}).get("observedGeneration") == generation(found)

        def generation(found):
            return found["metadata"]["generation"]

        wait(is_seen, "the deployment's controller")
        return len(self.user.get("replicasets", "-n", self.namespace)["items"])

    def look(self, *, after_seconds=rollouts.LOOK_SECONDS):
        """Reconcile when it is time to look at workloads again."""
        self.run.seconds += after_seconds
        return self.run("search")


def template(found):
    return found["spec"]["template"]["metadata"]["annotations"].get(names.ANNOTATION_SECRETS)


@pytest.fixture
def shop(api_server, namespace):
    return Shop(api_server, namespace)


@pytest.mark.parametrize("kind", KINDS)
def test_workload_is_noted_first_and_restarted_when_secret_changes(shop, kind):
    shop.apply(workload(kind))
    what = f"{kind.lower()}/app"
    shop.look()
    first = shop.get(what)
    assert names.ANNOTATION_SECRETS_SEEN in first["metadata"]["annotations"]
    assert template(first) is None
    shop.rotate()
    shop.look()
    restarted = shop.get(what)
    assert template(restarted)
    assert shop.run.restarted == [kind]
    shop.look()
    assert shop.get(what)["spec"] == restarted["spec"]
    # Nothing else of it has changed.
    before, after = first["spec"], restarted["spec"]
    del after["template"]["metadata"]["annotations"][names.ANNOTATION_SECRETS]
    assert before == after


def test_restart_is_one_rollout_and_note_is_none(shop):
    shop.apply(workload())
    shop.look()
    assert shop.replica_sets() == 1
    shop.rotate()
    shop.look()
    assert shop.replica_sets() == 2


@pytest.mark.parametrize("kind", KINDS)
def test_two_annotations_are_all_that_is_ours(shop, kind):
    shop.apply(workload(kind))
    shop.look()
    shop.rotate()
    shop.look()
    found = shop.user.get(f"{kind.lower()}/app", "-n", shop.namespace, "--show-managed-fields")
    (ours,) = (
        entry["fieldsV1"]
        for entry in found["metadata"]["managedFields"]
        if entry["manager"] == names.FIELD_MANAGER
    )
    on_workload: dict[str, Any] = {f"f:{names.ANNOTATION_SECRETS_SEEN}": {}}
    on_template: dict[str, Any] = {"f:annotations": {f"f:{names.ANNOTATION_SECRETS}": {}}}
    assert ours == {
        "f:metadata": {"f:annotations": on_workload},
        "f:spec": {"f:template": {"f:metadata": on_template}},
    }


def test_restart_is_told_with_its_reason_and_never_value(shop):
    shop.apply(workload())
    shop.look()
    shop.rotate()
    shop.look()
    (told,) = (it for it in shop.run.events.told if rollouts.REASON in it)
    assert told.startswith("Normal SecretChanged: ")
    assert "database/PASSWORD" in told
    written = json.dumps([shop.get(), shop.run.events.told])
    for value in (OLD, NEW):
        assert value.decode() not in written


def test_secret_of_somebody_else_does_not_change_whatever_vault_holds(shop, monkeypatch):
    changing = []
    monkeypatch.setattr(rollouts.Rollouts, "secret_changes", lambda _, it: changing.append(it))
    shop("delete", "secret", "queue")
    shop("create", "secret", "generic", "queue", "--from-literal=theirs=1")
    shop.run.restart()
    shop.rotate(QUEUE)
    assert shop.run.condition("search", "SecretsSynced")["reason"] == "ForeignObject"
    assert changing == []
    shop.rotate(DATABASE)
    assert changing == [shop.namespace]


def test_secrets_that_change_together_cause_one_restart(shop):
    both = workload(asked="database,queue")
    shop.apply(both)
    shop.look()
    assert shop.rotate(DATABASE) == pytest.approx(rollouts.SETTLE_SECONDS)
    shop.run.seconds += 1
    assert shop.rotate(QUEUE) == pytest.approx(rollouts.SETTLE_SECONDS - 1)
    assert template(shop.get()) is None
    shop.look(after_seconds=rollouts.SETTLE_SECONDS)
    assert shop.run.restarted == ["Deployment"]
    (told,) = (it for it in shop.run.events.told if rollouts.REASON in it)
    assert "database, queue" in told


def test_workload_that_came_since_last_look_is_restarted_too(shop):
    shop.look()
    shop.apply(workload())
    shop.rotate()
    shop.look()
    assert template(shop.get())


def test_change_that_was_synced_before_crash_restarts_after_it(shop):
    shop.apply(workload())
    shop.look()
    shop.rotate()
    shop.run.restart()
    shop.run("search")
    assert template(shop.get())


def test_workload_that_came_while_operator_was_away_is_restarted_too(shop):
    shop.run.restart()
    shop.apply(workload())
    shop.rotate()
    shop.look()
    assert template(shop.get())


def test_workload_without_annotation_or_with_other_secret_is_untouched(shop):
    shop.apply(workload(asked="false"), workload(name="other", secret="somebody-elses"))
    shop.look()
    shop.rotate()
    shop.look()
    for name in ("app", "other"):
        found = shop.get(f"deployment/{name}")
        assert template(found) is None
        assert names.ANNOTATION_SECRETS_SEEN not in found["metadata"]["annotations"]


def test_paused_deployment_is_left_alone_until_it_is_resumed(shop):
    shop.apply(workload(paused=True))
    shop.look()
    shop.rotate()
    shop.look()
    assert template(shop.get()) is None
    shop("rollout", "resume", "deployment/app")
    shop.look()
    assert template(shop.get())


def test_rollout_undone_by_owner_stays_undone(shop):
    """kubectl brings an old note back with the old template: that is one more restart, and all."""
    shop.apply(workload())
    shop.look()
    assert shop.replica_sets() == 1
    shop("set", "image", "deployment/app", "app=app:2")
    shop.rotate()
    shop.look()
    assert shop.replica_sets() >= 2
    shop("rollout", "undo", "deployment/app", "--to-revision=1")
    shop.look()
    undone = shop.get()
    assert undone["spec"]["template"]["spec"]["containers"][0]["image"] == "app:1"
    shop.look()
    assert shop.get()["spec"] == undone["spec"]
    shop.rotate(value=OLD)
    shop.look()
    assert template(shop.get()) != template(undone)


@pytest.mark.parametrize("server_side", [True, False])
def test_its_owner_may_apply_it_again(shop, server_side):
    manifest = workload()
    manifest["metadata"]["namespace"] = shop.namespace
    command = ("apply", f"--server-side={str(server_side).lower()}", "-f", "-")
    shop.user(*command, stdin=json.dumps(manifest))
    shop.look()
    shop.rotate()
    shop.look()
    before = shop.get()
    shop.user(*command, stdin=json.dumps(manifest))
    after = shop.get()
    assert after["spec"] == before["spec"]
    shop.look()
    assert shop.get()["spec"] == before["spec"]


def restarter(shop, objects):
    return rollouts.Rollouts(
        objects=objects,
        seen=read_through.ReadThrough(objects),
        events=shop.run.events,
        namespaces=frozenset({"*"}),
        restarted=shop.run.restarted.append,
    )


class Late:
    """A cluster in which something happens between the look and the write."""

    def __init__(self, real, happens):
        self._real = real
        self._happens = happens

    def get(self, kind, namespace, name):
        return self._real.get(kind, namespace, name)

    def find(self, kind, namespace=None, *, selector=""):
        return self._real.find(kind, namespace, selector=selector)

    def apply(self, desired, **options):
        self._happens()
        return self._real.apply(desired, **options)


def test_workload_that_goes_meanwhile_does_not_come_back(shop):
    shop.apply(workload())
    late = Late(shop.objects, lambda: shop("delete", "deployment", "app", "--wait"))
    made = restarter(shop, late)
    assert made.look(shop.namespace) is None
    assert shop.objects.get(kinds.DEPLOYMENT, shop.namespace, "app") is None


def test_namespaces_not_enabled_are_not_looked_at(shop):
    class Nobody(client.KubeClient):
        def __init__(self):
            pass

        def __getattribute__(self, name):
            raise AssertionError(name)

    made = rollouts.Rollouts(
        objects=Nobody(),
        seen=read_through.ReadThrough(Nobody()),
        events=shop.run.events,
        namespaces=frozenset({"another"}),
        restarted=shop.run.restarted.append,
    )
    made.secret_changes(shop.namespace)
    assert made.look(shop.namespace) is None


class As:
    """The cluster as the shop's administrator, but workloads as an account that may do less."""

    def __init__(self, shop, folder, *verbs):
        account = "restarter"
        shop("create", "serviceaccount", account)
        if verbs:
            resources = "--resource=deployments.apps,statefulsets.apps,daemonsets.apps"
            shop("create", "role", account, f"--verb={','.join(verbs)}", resources)
            whom = f"--serviceaccount={shop.namespace}:{account}"
            shop("create", "rolebinding", account, f"--role={account}", whom)
        config = yaml.safe_load(shop.user.kubeconfig.read_text(encoding="utf-8"))
        token = shop("create", "token", account).strip()
        config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
        file = folder / "kubeconfig"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        self._workloads = reconciling.connect(file)
        self._others = shop.objects

    def get(self, kind, namespace, name):
        return self._others.get(kind, namespace, name)

    def find(self, kind, namespace=None, *, selector=""):
        allowed = self._workloads if kind.group == "apis/apps/v1" else self._others
        return allowed.find(kind, namespace, selector=selector)

    def apply(self, desired, **options):
        return self._workloads.apply(desired, **options)


def test_refused_restart_is_told_and_stops_nothing(shop, tmp_path):
    shop.apply(workload())
    shop.look()
    shop.rotate()
    restarter(shop, As(shop, tmp_path, "list")).look(shop.namespace)
    (told,) = (it for it in shop.run.events.told if rollouts.REASON in it)
    assert told.startswith("Warning SecretChanged: Not restarted, though database/PASSWORD changed")
    assert shop.run.restarted == []
    shop.look()
    assert shop.run.restarted == ["Deployment"]


def test_missing_right_to_list_is_logged_and_stops_nothing(shop, tmp_path, caplog):
    shop.apply(workload())
    made = restarter(shop, As(shop, tmp_path))
    made.secret_changes(shop.namespace)
    assert f"cannot check the workloads of {shop.namespace}" in caplog.text
    assert "403" in caplog.text
