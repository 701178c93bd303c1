"""What one apply changes outside of the API server."""

from types import SimpleNamespace
from typing import Any, cast

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


class Cluster:
    """Objects by kind and name; the watch of ours shows none of them."""

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
        return True


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


def test_hidden_secret_keeps_password_of_its_user_in_redis():
    """One that lost its label, or its owner by `--cascade=orphan`, is not shown by our watch."""
    raw = provider_classes.raw(redis={"secretKeyRef": SECRET})
    usable = classes.Classes(namespace="shop", labels={"team": "shop"}, find={"openai": raw}.get)
    wanted = classes.resolve(
        policies.parsed(
            providers=[{"ref": "openai", "model": "text-embedding-3-small"}],
            failover={"enabled": False, "acrossSpaces": False},
            sidecar={"logLevel": "info"},
            alerts={"enabled": False},
            secrets=None,
        ),
        usable,
    )
    entry = names.secret_class_redis_url("openai")
    found = SimpleNamespace(owned=lambda _: credentials.Found(values={entry: URL.encode()}))
    cluster, users = Cluster(), Users()

    def reconcile():
        """As after a start of the operator, when nothing is remembered."""
        reads = CurrentReads(cluster.get, changes=cluster)
        seen = SimpleNamespace(reads=reads, owned_secrets=lambda *_: [])
        kept = apply.ObjectApplier(objects=cast("Any", cluster), reads=reads, drifted=print)
        made = applier.Applier(
            objects=cast("Any", cluster),
            seen=cast("Any", seen),
            found=cast("Any", found),
            kept=kept,
            changing=lambda _: None,
            users=cast("Any", users),
        )
        made.apply(wanted, usable=usable)

    reconcile()
    place = "secrets", names.owned_secret("search")
    before = secrets.decode(cluster.live[place])
    cluster.live[place]["metadata"]["labels"] = {}
    reconcile()
    assert len(users.passwords) == 2
    assert len(set(users.passwords)) == 1
    assert secrets.decode(cluster.live[place]) == before
