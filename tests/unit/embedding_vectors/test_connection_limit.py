"""Which connection makes room for a new one on the port of an index's pods."""

from typing import Any, cast

from embedding_vectors.serving.connections import ConnectionLimit


class Held:
    """Stands in for a connection."""

    def __init__(self, address: str, *, is_answering: bool = False) -> None:
        self.address = address
        self.is_answering = is_answering
        self.is_dropped = False

    def drop(self) -> None:
        self.is_dropped = True


def entered(limit: ConnectionLimit, *addresses: str, **options: Any) -> list[Held]:
    made = [Held(it, **options) for it in addresses]
    for one in made:
        limit.enter(cast("Any", one))
    return made


def test_oldest_idle_one_of_an_address_goes_where_it_has_too_many():
    limit = ConnectionLimit(total=10, per_address=2)
    first, second, third = entered(limit, "a", "a", "a")
    assert [it.is_dropped for it in (first, second, third)] == [True, False, False]
    # A second goodbye changes nothing.
    limit.leave(cast("Any", first))
    limit.leave(cast("Any", second))
    (fourth,) = entered(limit, "a")
    assert not third.is_dropped
    assert not fourth.is_dropped


def test_address_that_has_most_makes_room_for_another():
    limit = ConnectionLimit(total=3, per_address=3)
    flood = entered(limit, "a", "a", "a")
    (kubelet,) = entered(limit, "b")
    assert [it.is_dropped for it in flood] == [True, False, False]
    assert not kubelet.is_dropped


def test_requests_under_way_are_spared_and_the_new_one_goes():
    limit = ConnectionLimit(total=10, per_address=2)
    busy = entered(limit, "a", "a", is_answering=True)
    (new,) = entered(limit, "a")
    assert not any(it.is_dropped for it in busy)
    assert new.is_dropped
