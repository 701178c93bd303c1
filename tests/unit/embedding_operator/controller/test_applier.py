"""What one apply changes outside of the API server."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.controller import applier, credentials
from embedding_operator.kube import apply
from embedding_operator.kube.current_reads import CurrentReads
from embedding_operator.policy import classes, redis_users
from embedding_operator.render import secrets
from tests.parts import policies, provider_classes

URL = "redis://operator:pw@redis.example:6379/0"
SECRET = {"name": "redis", "key": "url"}
NONE = classes.Classes(namespace="shop", labels={}, find=lambda _: None)


class Cluster:
    """Objects by kind and name; the watch of ours shows none of them, unless it `shows` all."""

    shows = False

    def __init__(self):
        self.live: dict[tuple[str, str], Any] = {}

    def get(self, kind, namespace, name):
        return self.live.get((kind.plural, name))

    def apply(self, desired, *, is_new=False, **_):
        place = f"{desired['kind'].lower()}s", desired["metadata"]["name"]
        if is_new and place in self.live:
            raise errors.Conflict("there is one")
        metadata = {**desired["metadata"], "resourceVersion": "9"}
        self.live[place] = {**desired, "metadata": metadata}
        return self.live[place]

    def serves(self, _):
        return False

    def token(self, *_):
        return None

    def shows_none(self, *_):
        return not self.shows


class Users:
    """A Redis that keeps the password of the one user."""

    def __init__(self):
        self.passwords: list[str] = []

    def grant(self, admin_url, class_name, policy, *, before):
        user = redis_users.user_of(
            class_name, policy, before=before, new_password=f"{len(self.passwords)}".zfill(32)
        )
        self.passwords.append(user.password)
        return redis_users.url_of(admin_url, user)


class Run:
    """Reconciles, each as after a start of the operator, when nothing is remembered."""

    def __init__(self, **found):
        self.cluster, self.users = Cluster(), Users()
        self.found = SimpleNamespace(**{"owned": lambda _: credentials.Found(values={}), **found})

    def __call__(self, wanted, usable=NONE):
        reads = CurrentReads(self.cluster.get, changes=self.cluster)
        seen = SimpleNamespace(reads=reads, owned_secrets=lambda *_: [])
        objects = cast("Any", self.cluster)
        made = applier.Applier(
            objects=objects,
            seen=cast("Any", seen),
            found=cast("Any", self.found),
            kept=apply.ObjectApplier(objects=objects, reads=reads, drifted=lambda _: None),
            changing=lambda _: None,
            users=cast("Any", self.users),
        )
        return made.apply(wanted, usable=usable)

    def held(self, name):
        return secrets.decode(self.cluster.live["secrets", name])


def wanted(**spec):
    plain = {"failover": {"enabled": False, "acrossSpaces": False}, "alerts": {"enabled": False}}
    return policies.parsed(**{"sidecar": {"logLevel": "info"}, "secrets": None, **plain, **spec})


def test_hidden_secret_keeps_password_of_its_user_in_redis():
    """One that lost its label, or its owner by `--cascade=orphan`, is not shown by our watch."""
    raw = provider_classes.raw(redis={"secretKeyRef": SECRET})
    usable = classes.Classes(namespace="shop", labels={"team": "shop"}, find={"openai": raw}.get)
    provider = {"ref": "openai", "model": "text-embedding-3-small"}
    resolved = classes.resolve(wanted(providers=[provider]), usable)
    entry = names.secret_class_redis_url("openai")
    run = Run(owned=lambda _: credentials.Found(values={entry: URL.encode()}))
    run(resolved, usable)
    name = names.owned_secret("search")
    before = run.held(name)
    run.cluster.live["secrets", name]["metadata"]["labels"] = {}
    run(resolved, usable)
    assert len(run.users.passwords) == 2
    assert len(set(run.users.passwords)) == 1
    assert run.held(name) == before


def test_hidden_synced_secret_is_written_at_once_with_its_last_good_values():
    policy = wanted(providers=[policies.LOCAL], secrets=policies.everything()["spec"]["secrets"])
    entry = next(it for it in policy.secrets if it.keys)
    token, other = sorted((entry.keys or {}).values())[:2]
    values = {token: b"new"}
    run = Run(synced=lambda *_: credentials.Found(values=values))
    made = secrets.of_entry(policy, entry, {token: b"old", other: b"last good"})
    made["metadata"]["labels"] = {}
    run.cluster.live["secrets", entry.name] = made
    assert run(policy).problems == ()
    assert run.held(entry.name) == {token: b"new", other: b"last good"}


def test_values_of_foreign_secret_are_no_last_good_ones():
    """Whether that Secret was read before for another reason must make no difference."""
    policy = wanted(providers=[policies.LOCAL], secrets=policies.everything()["spec"]["secrets"])
    entry = next(it for it in policy.secrets if it.keys)
    unread = errors.Problem("PathNotAllowed", "may not read it")
    run = Run(synced=lambda *_: credentials.Found(values={}, problems=(unread,)))
    run.cluster.shows = True
    foreign = secrets.of_entry(policy, entry, dict.fromkeys((entry.keys or {}).values(), b"theirs"))
    foreign["metadata"] = {"name": entry.name, "labels": {}, "resourceVersion": "1"}
    run.cluster.live["secrets", entry.name] = foreign
    assert set(run(policy).problems) == {unread}
    assert run.cluster.live["secrets", entry.name] == foreign


def _watching():
    """Reconciles whose objects the watch shows."""
    run = Run()
    run.cluster.shows = True
    return run


def _owned_key(run, *providers, key):
    """What the owned Secret holds for provider `one` once its key is read, or not (None)."""
    values = {} if key is None else {names.secret_provider_key("one"): key}
    run.found.owned = lambda _: credentials.Found(values=values)
    policy = wanted(providers=list(providers))
    run(policy)
    return run.held(names.owned_secret(policy.name)).get(names.secret_provider_key("one"))


ONE = {"name": "one", "type": "OpenAI", "model": "e5", "space": "s"}
REFERENCE = {"secretKeyRef": {"name": "keys", "key": "K"}}
ANOTHER = {"secretKeyRef": {"name": "keys", "key": "missing"}}


def test_key_stays_where_another_one_of_same_provider_cannot_be_read():
    run = _watching()
    assert _owned_key(run, {**ONE, "apiKey": REFERENCE}, key=b"first") == b"first"
    assert _owned_key(run, {**ONE, "apiKey": ANOTHER}, key=None) == b"first"


@pytest.mark.parametrize(
    "other",
    [{"type": "Mistral"}, {"type": "OpenAICompatible", "baseURL": "https://elsewhere.example/v1"}],
    ids=["type", "address"],
)
def test_key_of_one_provider_is_not_sent_to_another(other):
    run = _watching()
    assert _owned_key(run, {**ONE, "apiKey": REFERENCE}, key=b"first") == b"first"
    assert _owned_key(run, {**ONE, **other, "apiKey": ANOTHER}, key=None) is None
    assert _owned_key(run, {**ONE, **other, "apiKey": ANOTHER}, key=b"second") == b"second"
    assert _owned_key(run, {**ONE, **other, "apiKey": ANOTHER}, key=None) == b"second"


def test_key_stays_as_long_as_policy_that_sends_it_elsewhere_is_refused():
    run = _watching()
    assert _owned_key(run, {**ONE, "apiKey": REFERENCE}, key=b"first") == b"first"
    twice = {**ONE, "name": "two", "space": "another"}
    run.found.owned = lambda _: credentials.Found(values={})
    refused = wanted(
        providers=[{**ONE, "type": "Mistral", "apiKey": ANOTHER}, twice],
        failover={"enabled": True, "acrossSpaces": False},
    )
    assert run(refused).refused
    assert run.held(names.owned_secret(refused.name))[names.secret_provider_key("one")] == b"first"
