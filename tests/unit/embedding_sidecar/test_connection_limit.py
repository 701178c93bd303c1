"""A flood of connections takes places only from its own address (field case D10)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_http.connection_limit import ConnectionLimit
from embedding_sidecar.api import server


class Client:
    """A connection; `due` is when it is waited for no longer."""

    def __init__(self, address="a", *, due=0.0, is_answering=False):
        self.address = address
        self.due = due
        self.is_answering = is_answering
        self.end = ""

    def drop(self):
        self.end = "dropped"

    def refuse_connection(self):
        self.end = "turned away"


def entered(limit, *clients):
    for client in clients:
        limit.enter(client)
    return [client.end for client in clients]


def test_connections_below_bound_stay():
    limit = ConnectionLimit(3)
    assert entered(limit, Client(), Client(), Client()) == ["", "", ""]
    assert len(limit) == 3


def test_d10_longest_waiting_of_address_with_most_connections_goes():
    limit = ConnectionLimit(4)
    kubelet = Client("node", due=1)
    flood = [Client("pod", due=due) for due in (9, 5, 7)]
    entered(limit, kubelet, *flood)
    assert entered(limit, Client("prometheus", due=2)) == [""]
    assert [it.end for it in (kubelet, *flood)] == ["", "", "dropped", ""]


def test_d10_address_has_share_of_its_own():
    limit = ConnectionLimit(10, per_address=2)
    assert entered(limit, *[Client("pod", due=due) for due in (1, 2, 3)]) == ["dropped", "", ""]
    assert entered(limit, Client("other"), Client("other")) == ["", ""]


def test_d10_connection_that_reads_no_answers_makes_room_too():
    limit = ConnectionLimit(2)
    deaf = [Client("pod", is_answering=True) for _ in range(2)]
    entered(limit, *deaf)
    assert entered(limit, Client("node")) == [""]
    assert [it.end for it in deaf] == ["dropped", ""]


def test_applications_requests_survive_and_new_connection_is_refused():
    limit = ConnectionLimit(2, spares_answering=True)
    asking = [Client(is_answering=True) for _ in range(2)]
    assert entered(limit, *asking, Client()) == ["", "", "turned away"]
    asking[0].is_answering = False
    assert entered(limit, Client()) == [""]
    assert asking[0].end == "dropped"


def test_place_is_given_back_once():
    limit = ConnectionLimit(2)
    first, second = Client(), Client()
    entered(limit, first, second)
    for _ in range(2):
        limit.leave(first)
    assert len(limit) == 1
    assert entered(limit, Client()) == [""]
    assert second.end == ""


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 9), st.booleans(), st.booleans()),
        max_size=60,
    ),
    st.integers(1, 8),
    st.integers(1, 8),
    st.booleans(),
)
def test_connections_never_exceed_bounds(arrivals, total, per_address, spares):
    limit = ConnectionLimit(total, per_address=per_address, spares_answering=spares)
    clients = []
    for address, due, is_answering, leaves in arrivals:
        clients.append(Client(address, due=due, is_answering=is_answering))
        limit.enter(clients[-1])
        if leaves:
            limit.leave(clients[-1])
            clients[-1].end = "left"
        held = [it for it in clients if not it.end]
        assert len(limit) == len(held) <= total
        assert all(sum(it.address == name for it in held) <= per_address for name in "abcd")
        assert not spares or not any(it.is_answering and it.end == "dropped" for it in clients)


@pytest.mark.parametrize("allowed", [0, 64, 100, 200, 1024, 4096, 2**20, 2**60])
def test_connections_leave_descriptors_for_everything_else(allowed):
    most = server.connections(allowed)
    assert 1 <= most.admin <= server.MAX_ADMIN
    assert 1 <= most.api <= server.MAX_API
    if allowed > server.OWN_DESCRIPTORS + 8:
        # Each request of the application may need a connection to a provider.
        used = most.admin + 2 * most.api + server.OWN_DESCRIPTORS
        assert used <= allowed
