"""An EmbeddingIndex on a real API server: its objects, its Jobs, and its status."""

import copy
import json

import pytest
import yaml

from embedding_contract import document, index_document, index_report, names
from embedding_contract.index_report import Problem
from embedding_operator import errors
from embedding_operator.indexes import objects
from embedding_operator.kube import kinds
from embedding_operator.policy import provider_guard
from tests.parts import indexes, indexing, reconciling
from tests.parts.indexing import condition

pytestmark = pytest.mark.cluster

SMALLEST = indexes.CASES / "index-good" / "smallest.yaml"
NAME = names.index_objects("articles")
DSN = "postgresql://worker:a-secret-password@postgres.shop/articles"


def index(name="articles", **spec):
    raw = yaml.safe_load(SMALLEST.read_text(encoding="utf-8"))
    raw["metadata"] = {"name": name}
    raw["spec"].update(spec)
    return raw


def secret(name, **values):
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {key.replace("_", "-"): value for key, value in values.items()},
    }


@pytest.fixture
def put(api_server, namespace):
    """Applies objects in the test's namespace."""

    def apply(*given):
        api_server.apply(
            *({**it, "metadata": {**it["metadata"], "namespace": namespace}} for it in given)
        )

    return apply


@pytest.fixture
def run(api_server, namespace, put):
    """A reconciler of a namespace with the policy, its token, the DSN and one index."""
    api_server("label", "namespace", namespace, f"{names.LABEL_INJECTION}=enabled")
    put(
        indexes.POLICY,
        secret(names.owned_secret("search"), api_token=indexing.TOKEN),
        secret("database", dsn=DSN),
        index(),
    )
    return indexing.Indexing(reconciling.connect(api_server.kubeconfig), namespace)


@pytest.fixture
def tell(api_server, namespace):
    """Gives a pod a status."""

    def patch(pod, status):
        name = pod["metadata"]["name"]
        given = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
        api_server("patch", "pod", name, "-n", namespace, *given)

    return patch


def job_of(run):
    (found,) = [it for key, it in run.owned().items() if key.startswith("Job/")]
    return found


def job_names(run):
    return sorted(key.partition("/")[2] for key in run.owned() if key.startswith("Job/"))


# --- objects


def test_index_becomes_its_objects_and_is_their_owner(run):
    status = run()
    assert condition(status, "Accepted") == ("True", "Accepted")
    assert condition(status, "WorkloadsApplied") == ("True", "Applied")
    made = run.owned()
    job = job_of(run)["metadata"]["name"]
    expected = {"ConfigMap", "Deployment", "Service", "CronJob"}
    assert made.keys() == {f"{kind}/{NAME}" for kind in expected} | {f"Job/{job}"}
    uid = run.api.get(kinds.INDEX, run.namespace, "articles")["metadata"]["uid"]
    for found in made.values():
        (owner,) = found["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("EmbeddingIndex", uid, True)


def test_document_names_space_of_policys_provider(run):
    status = run()
    text = run.owned()[f"ConfigMap/{NAME}"]["data"][names.INDEX_KEY]
    made = index_document.parse(text)
    assert made.target.space == "OpenAICompatible/http://e5.models.svc/v1/e5@384"
    assert (made.namespace, made.name, made.policy) == (run.namespace, "articles", "search")
    assert status["document"]
    assert DSN not in str(run.owned())


def test_pods_are_confined_and_mount_token_alone(run):
    run()
    made = run.owned()
    specs = {
        "serve": made[f"Deployment/{NAME}"]["spec"]["template"],
        "backfill": made[f"CronJob/{NAME}"]["spec"]["jobTemplate"]["spec"]["template"],
    }
    for command, template in specs.items():
        spec, labels = template["spec"], template["metadata"]["labels"]
        (container,) = spec["containers"]
        assert container["args"] == [command]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert labels[names.LABEL_INDEX] == "articles"
        assert labels[names.LABEL_POLICY] == "search"
        assert container["terminationMessagePolicy"] == "File"
        volumes = {it["name"]: it for it in spec["volumes"]}
        token = volumes["token"]["secret"]
        assert token["secretName"] == names.owned_secret("search")
        assert [it["path"] for it in token["items"]] == [names.SECRET_API_TOKEN]
        (source,) = volumes["database"]["projected"]["sources"]
        assert source["secret"]["name"] == "database"
        assert [it["path"] for it in source["secret"]["items"]] == [names.DSN_FILE]
        assert [it["name"] for it in container["env"]] == [names.ENV_POD_UID]


def test_pods_are_taken_where_namespace_demands_restricted(run, api_server):
    run()
    label = "pod-security.kubernetes.io/enforce=restricted"
    api_server("label", "namespace", run.namespace, label)
    template = run.owned()[f"Deployment/{NAME}"]["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "a", "namespace": run.namespace},
        "spec": template["spec"],
    }
    api_server.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": run.namespace},
        }
    )
    api_server("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))


def test_reconcile_without_change_writes_nothing(run):
    run()
    run()
    before = {key: it["metadata"]["resourceVersion"] for key, it in run.owned().items()}
    index_before = run.api.get(kinds.INDEX, run.namespace, "articles")
    run()
    run.restart()
    run()
    own = ("ConfigMap", "Service", "CronJob")
    after = {key: it["metadata"]["resourceVersion"] for key, it in run.owned().items()}
    assert {key: it for key, it in after.items() if key.startswith(own)} == {
        key: it for key, it in before.items() if key.startswith(own)
    }
    index_after = run.api.get(kinds.INDEX, run.namespace, "articles")
    assert index_after["metadata"]["resourceVersion"] == index_before["metadata"]["resourceVersion"]
    assert run.drifted == []


def test_changed_objects_are_put_back(run, api_server):
    run()
    run()
    patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "evil:1"}]
    api_server(
        *("patch", "deployment", NAME, "-n", run.namespace, "--type=json"),
        *("-p", json.dumps(patch)),
    )
    run()
    template = run.owned()[f"Deployment/{NAME}"]["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == "embedding-vectors:1"
    assert run.drifted == ["Deployment"]


def test_foreign_object_is_left_and_named(run, put):
    put(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": NAME},
            "spec": {"ports": [{"port": 80}], "selector": {"app": "shop"}},
        }
    )
    status = run()
    assert condition(status, "WorkloadsApplied") == ("False", "ForeignObject")
    found = run.api.get(kinds.SERVICE, run.namespace, NAME)
    assert found["spec"]["selector"] == {"app": "shop"}
    assert job_names(run) == []


def test_search_that_is_turned_off_takes_its_objects_away(run, put):
    run()
    put(index(search={"enabled": False}))
    status = run()
    assert {key.partition("/")[0] for key in run.owned()} == {"ConfigMap", "CronJob", "Job"}
    assert condition(status, "Searchable") == ("True", "SearchOff")


def test_schedule_wakes_cron_job(run, put):
    run()
    assert run.owned()[f"CronJob/{NAME}"]["spec"]["suspend"] is True
    put(index(schedule="*/5 * * * *", limits={"workers": 4}))
    run()
    spec = run.owned()[f"CronJob/{NAME}"]["spec"]
    assert (spec["suspend"], spec["schedule"]) == (False, "*/5 * * * *")
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["jobTemplate"]["spec"]["parallelism"] == 4


def test_schedule_that_server_does_not_take_is_told(run, put):
    put(index(schedule="61 * * * *"))
    assert condition(run(), "WorkloadsApplied") == ("False", "Refused")


# --- runs


def test_each_change_of_target_starts_one_job_and_ends_one_before(run, put):
    run()
    run()
    (first,) = job_names(run)
    put(index(applyPlan=True))
    run()
    (second,) = job_names(run)
    assert first != second
    put(index(applyPlan=True, limits={"batchRows": 8}, search={"replicas": 3}))
    run()
    assert job_names(run) == [second]


def finish(run, api_server, job, kind):
    where = (job, "-n", run.namespace)
    # The Job controller's part comes first.
    api_server("wait", "--for=jsonpath={.status.startTime}", f"job/{job}", *where[1:])
    when = api_server.get("job", *where)["status"]["startTime"]
    more = {"reason": "BackoffLimitExceeded", "message": "it failed"} if kind == "Failed" else {}
    targets = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[kind]
    conditions = [
        {"type": it, "status": "True", "lastTransitionTime": when, "lastProbeTime": when, **more}
        for it in (targets, kind)
    ]
    status = {"conditions": conditions, "active": 0, "ready": 0, "terminating": 0}
    status |= {"completionTime": when, "succeeded": 1} if kind == "Complete" else {"failed": 1}
    api_server(
        *("patch", "job", *where, "--subresource=status", "--type=merge"),
        *("-p", json.dumps({"status": status})),
    )


@pytest.mark.parametrize("kind", ["Complete", "Failed"])
def test_finished_job_is_not_started_again_after_it_has_gone(run, api_server, kind):
    run()
    (job,) = job_names(run)
    finish(run, api_server, job, kind)
    assert run()["run"] == {"job": job, "result": kind}
    api_server("delete", "job", job, "-n", run.namespace)
    run.restart()
    assert run()["run"] == {"job": job, "result": kind}
    assert job_names(run) == []


def test_running_job_that_was_deleted_is_started_again(run, api_server):
    run()
    (job,) = job_names(run)
    api_server("delete", "job", job, "-n", run.namespace)
    run()
    assert job_names(run) == [job]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 7))
def test_crash_at_any_write_is_healed_by_next_reconcile(run, at, after):
    run.restart(reconciling.Crashing(run.subject, at=at, after=after))
    with pytest.raises(reconciling.CrashError):
        run()
    run.restart()
    status = run()
    assert condition(status, "WorkloadsApplied") == ("True", "Applied")
    assert len(run.owned()) == 5


# --- refusals


def test_index_outside_of_named_namespaces_gets_nothing(run):
    run.vectors = objects.Vectors(image="i", pull_policy="Never", resources={})
    run.restart()
    status = run()
    assert condition(status, "Accepted") == ("False", "NamespaceNotAllowed")
    assert condition(status, "Ready") == ("False", "NamespaceNotAllowed")
    assert run.owned() == {}


def test_index_of_namespace_without_injection_gets_nothing(run, api_server):
    api_server("label", "namespace", run.namespace, f"{names.LABEL_INJECTION}-")
    assert condition(run(), "Accepted") == ("False", "NamespaceNotEnabled")
    assert run.owned() == {}


def test_index_without_its_policy_gets_nothing(run, put):
    put(index(policyRef={"name": "other"}))
    assert condition(run(), "Accepted") == ("False", "PolicyNotFound")
    assert run.owned() == {}


def test_younger_of_two_indexes_with_one_target_is_refused(run, put):
    run()
    put(index("younger"))
    # Times of creation are of seconds.
    mine = run("articles")
    younger = run("younger")
    refused = [it for it in (mine, younger) if condition(it, "Accepted")[0] == "False"]
    assert refused == [younger]
    assert condition(younger, "Accepted") == ("False", "TargetTaken")
    assert run.owned("younger") == {}
    put(index("younger", target={"model": "e5", "dimensions": 384, "column": "other"}))
    assert condition(run("younger"), "Accepted") == ("True", "Accepted")


def test_model_that_leaves_policy_is_told_and_nothing_is_changed(run, put, tell):
    run()
    searching(run, tell, put, indexing.report())
    policy = copy.deepcopy(indexes.POLICY)
    policy["spec"]["providers"] = policy["spec"]["providers"][1:]
    put(policy)
    before = run.owned().keys()
    status = run()
    assert condition(status, "ModelMissing") == ("True", "ModelMissing")
    assert condition(status, "Ready") == ("False", "ModelMissing")
    assert run.owned().keys() == before
    assert status["rows"] == 200


def test_old_model_is_needed_until_searches_use_new_target(run, put, tell):
    run()
    searching(run, tell, put, indexing.report())
    policy = copy.deepcopy(indexes.POLICY)
    policy["spec"]["providers"] = policy["spec"]["providers"][1:]
    put(policy, index(target={"model": "voyage-4", "dimensions": 1024, "column": "second"}))
    status = run()
    assert condition(status, "Accepted") == ("True", "Accepted")
    assert condition(status, "ModelMissing") == ("True", "ModelMissing")


def test_filled_target_gets_no_vectors_of_another_space(run, put, tell):
    run()
    searching(run, tell, put, indexing.report())
    put(index(target={"model": "voyage-4", "dimensions": 1024, "column": "embedding"}))
    before = job_names(run)
    assert condition(run(), "Accepted") == ("False", "SpacesDiffer")
    assert job_names(run) == before


def test_missing_secret_is_told_and_pods_wait_for_it(run, api_server):
    api_server("delete", "secret", "database", "-n", run.namespace)
    status = run()
    assert condition(status, "DatabaseReachable") == ("False", "SecretMissing")
    assert f"Deployment/{NAME}" in run.owned()


def test_secret_that_may_not_be_named_keeps_index_from_running(run, api_server):
    run.guard = provider_guard.ProviderGuard(require_secret_label=True)
    run.restart()
    status = run()
    assert condition(status, "Accepted") == ("False", "SecretNotUsable")
    assert run.owned() == {}
    api_server("label", "secret", "database", "-n", run.namespace, f"{names.LABEL_USABLE}=true")
    assert condition(run(), "Accepted") == ("True", "Accepted")


# --- the policy's sidecars


def searchable(run, **options):
    """Names and addresses of the indexes in the document of the policy's sidecars."""
    policies = reconciling.Reconciling(run.api, run.namespace)
    policies.restart(**options)
    policies("search")
    name = names.document_configmap("search")
    text = policies.get(kinds.CONFIG_MAP, name)["data"][names.DOCUMENT_KEY]
    return [(it.name, it.url) for it in document.parse(text).indexes]


def test_sidecars_of_policy_are_told_where_to_search(run, put):
    put(index("off", search={"enabled": False}), index("other", policyRef={"name": "other"}))
    allowed = {"index_namespaces": frozenset({run.namespace})}
    url = f"http://{NAME}.{run.namespace}.svc:8486"
    assert searchable(run, **allowed) == [("articles", url)]
    assert searchable(run) == []


# --- status


def searching(run, tell, put, report):
    """Have a pod that searches say this; the status then."""
    pod = run.pod("search-1", "10.1.1.1", component=objects.SEARCH)
    put(pod)
    tell(pod, indexing.running("10.1.1.1"))
    run.asks.reports["10.1.1.1"] = report
    return run()


def test_index_whose_target_is_searched_is_ready(run, put, tell):
    assert condition(run(), "Ready")[0] == "Unknown"
    status = searching(run, tell, put, indexing.report())
    assert condition(status, "Ready") == ("True", "Ready")
    shown = {key: status[key] for key in ("phase", "serving", "rows", "done", "parked")}
    assert shown == {
        "phase": "Switched",
        "serving": indexing.TARGET,
        "rows": 200,
        "done": 200,
        "parked": 0,
    }
    (asked,) = run.asks.watched.values()
    assert asked.wanted.token == indexing.TOKEN
    assert asked.wanted.document == status["document"]


def test_running_worker_tells_how_fast_it_is(run, put, tell):
    run()
    pod = run.pod("fill-1", "10.1.1.2", component=objects.BACKFILL, owner=job_of(run))
    put(pod)
    tell(pod, indexing.running("10.1.1.2"))
    filling = indexing.target(
        "Filling", done=60, rows_per_second=12.51, expected_end="2026-01-01T00:00:12Z"
    )
    run.asks.reports["10.1.1.2"] = index_report.IndexReport(document="d", targets=(filling,))
    status = run()
    assert (status["phase"], status["rate"]) == ("Filling", "12.5/s")
    assert status["expectedEnd"] == "2026-01-01T00:00:12Z"
    assert condition(status, "Filled") == ("False", "Filling")
    assert condition(status, "SchemaReady") == ("True", "Applied")


def test_last_words_of_worker_are_read_and_kept(run, put, tell, api_server):
    obeyed = run()["document"]
    missing = Problem(reason="ExtensionMissing", message="CREATE EXTENSION vector", sqlstate=None)
    words = index_report.IndexReport(document=obeyed, problems=(missing,))
    pod = run.pod("fill-1", "10.1.1.2", component=objects.BACKFILL, owner=job_of(run))
    put(pod)
    tell(pod, indexing.ended(words, phase="Running"))
    status = run()
    assert condition(status, "SchemaReady") == ("False", "ExtensionMissing")
    api_server("delete", "pod", "fill-1", "-n", run.namespace, "--grace-period=0", "--force")
    assert condition(run(), "SchemaReady") == ("False", "ExtensionMissing")


def test_last_words_of_pod_that_only_has_label_are_not_believed(run, put, tell):
    obeyed = run()["document"]
    words = indexing.report(document=obeyed)
    pod = run.pod("fill-1", "10.1.1.2", component=objects.BACKFILL)
    put(pod)
    tell(pod, indexing.ended(words))
    status = run()
    assert status["phase"] == "Pending"
    assert "rows" not in status


@pytest.mark.parametrize(
    ("reason", "sqlstate"), [("AuthenticationFailed", "28P01"), ("Other", "XX000")]
)
def test_refusal_of_database_is_told_with_its_sqlstate(run, put, tell, reason, sqlstate):
    run()
    problem = Problem(reason=reason, message="the role is refused", sqlstate=sqlstate)
    report = index_report.IndexReport(document="d", problems=(problem,))
    status = searching(run, tell, put, report)
    assert condition(status, "DatabaseReachable") == ("False", reason)
    found = next(it for it in status["conditions"] if it["type"] == "DatabaseReachable")
    assert sqlstate in found["message"]
    assert any("DatabaseReachable=False" in it for it in run.events.told)


def test_counts_stay_while_no_pod_reports(run, put, tell):
    run()
    searching(run, tell, put, indexing.report("Filling", done=60, serving=None))
    run.asks.reports.clear()
    status = run()
    assert (status["phase"], status["done"]) == ("Filling", 60)
    assert condition(status, "Searchable") == ("False", "SidecarsSilent")


def test_index_that_has_gone_is_forgotten(run, api_server):
    run()
    api_server("delete", "embidx", "articles", "-n", run.namespace)
    assert run() == {}
    assert run.asks.watched == {}


def test_api_server_that_refuses_is_error_that_comes_again(run):
    class Away:
        def __getattr__(self, name):
            raise errors.Unavailable("away", reason="APIServerAway")

    run.restart(Away(), reads=Away())
    with pytest.raises(errors.Unavailable):
        run()
