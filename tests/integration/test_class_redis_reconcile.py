"""A class with a real Redis, reconciled on a real API server: policies get users of their own."""

import copy

import pytest
import redis

from embedding_contract import class_keys, names
from embedding_operator.kube import kinds
from embedding_operator.render import secrets
from tests.integration.test_class_reconcile import CLASS, shops, system  # noqa: F401 - fixtures
from tests.parts import kubectl, reconciling, redis_forms

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

ENTRY = names.secret_class_redis_url("openai")
PASSWORD = redis_forms.PASSWORD


@pytest.fixture
def server(tmp_path):
    made = redis_forms.Server(tmp_path / "redis", "--requirepass", PASSWORD)
    yield made.wait(password=PASSWORD)
    made.kill()


@pytest.fixture
def limited(shops, system, server):  # noqa: F811 - the fixtures
    """The two shops that may use the class, which has a ceiling in this Redis."""
    url = f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0"
    give(system, url)
    made = copy.deepcopy(CLASS)
    made["spec"]["redis"] = {"secretKeyRef": {"name": "limits", "key": "URL"}}
    made["spec"]["perPolicy"] = {"daily": {"requests": 10}}
    system.apply(made)
    for run in shops:
        run("search")
    yield shops
    system("delete", "secret", "limits", "-n", reconciling.SYSTEM)


def give(asked: kubectl.Kubectl, url: str) -> None:
    asked.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "limits", "namespace": reconciling.SYSTEM},
            "stringData": {"URL": url},
        }
    )


def url_of(run):
    held = secrets.decode(run.get(kinds.SECRET, names.owned_secret("search")))
    return held[ENTRY].decode() if ENTRY in held else None


def users(server):
    with server.client(password=PASSWORD) as admin:
        return {it for it in admin.acl_users() if it != "default"}


def user(run):
    return f"embedding/openai/{run.namespace}/search"


def test_each_policy_gets_url_of_its_own_user_and_never_of_class(limited, server):
    one, other, third = limited
    for run in (one, other):
        assert PASSWORD not in url_of(run)
        with redis.Redis.from_url(url_of(run)) as asked:
            assert asked.hgetall(class_keys.window("openai")) == {}
    assert url_of(third) is None
    assert users(server) == {user(one), user(other)}
    assert PASSWORD not in repr([one.get(kinds.POLICY, "search"), one.events.told])


def test_reconcile_keeps_password_and_brings_user_back(limited, server):
    run, before = limited[0], url_of(limited[0])
    with server.client(password=PASSWORD) as admin:
        admin.acl_deluser(user(run))
    run.restart()
    run("search")
    assert url_of(run) == before
    with redis.Redis.from_url(before) as asked:
        assert asked.hgetall(class_keys.window("openai")) == {}


def test_namespace_that_loses_right_loses_its_user(limited, server, system):  # noqa: F811 - fixtures
    lost, kept, _ = limited
    url = url_of(lost)
    system("label", "namespace", lost.namespace, "embedding-")
    lost("search")
    lost.provider_class("openai")
    assert url_of(lost) is None
    assert users(server) == {user(kept)}
    with redis.Redis.from_url(url) as asked, pytest.raises(redis.AuthenticationError):
        asked.hgetall(class_keys.window("openai"))


def test_deleted_policy_loses_its_user(limited, server, system):  # noqa: F811 - fixtures
    gone, kept, _ = limited
    system("delete", "embpol", "search", "-n", gone.namespace)
    kept.provider_class("openai")
    assert users(server) == {user(kept)}


def test_redis_that_makes_no_users_is_told_and_its_url_is_not_given(limited, system):  # noqa: F811 - fixtures
    run, before = limited[0], url_of(limited[0])
    give(system, "redis://:another-password@127.0.0.1:1/0")
    run("search")
    found = run.condition("search", "SecretsSynced")
    assert (found["status"], found["reason"]) == ("False", "RedisUserNotMade")
    assert "another-password" not in found["message"]
    assert url_of(run) == before  # the user that it has may still do
