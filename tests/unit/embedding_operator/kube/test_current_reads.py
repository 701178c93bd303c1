"""What is remembered of the API server is never older than what its watches have shown."""

from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.kube import kinds
from embedding_operator.kube.current_reads import MOST_BYTES, CurrentReads

PLACE = kinds.SECRET, "shop", "keys"


class Cluster:
    """One object, the changes of it that a watch has shown, and how often it was read."""

    def __init__(self):
        self.version = 1
        self.shown: int | None = 1
        self.reads = 0
        self.is_there = True
        self.while_reading = lambda: None

    def get(self, *_):
        self.reads += 1
        found = self.written() if self.is_there else None
        self.while_reading()
        return found

    def written(self):
        metadata = {"name": "keys", "namespace": "shop", "resourceVersion": str(self.version)}
        return {"kind": "Secret", "metadata": metadata, "data": {"a": str(self.version)}}

    def token(self, *_):
        return None if self.shown is None else str(self.shown)

    def shows_none(self, *_):
        return self.shown == 0

    def change(self):
        self.version += 1

    def show(self):
        self.shown = self.version


def reading(cluster):
    return CurrentReads(cluster.get, changes=cluster)


def versions(reads, count):
    return [reads.get(*PLACE)["data"]["a"] for _ in range(count)]


def test_object_is_read_once_until_its_watch_shows_change():
    cluster = Cluster()
    reads = reading(cluster)
    assert versions(reads, 3) == ["1"] * 3
    assert cluster.reads == 1
    cluster.change()
    cluster.show()
    assert versions(reads, 3) == ["2"] * 3
    assert cluster.reads == 2


def test_absent_object_is_remembered_as_absent():
    cluster = Cluster()
    cluster.is_there = False
    reads = reading(cluster)
    assert [reads.get(*PLACE) for _ in range(3)] == [None] * 3
    assert cluster.reads == 1


def test_object_without_watch_is_read_each_time():
    cluster = Cluster()
    reads = reading(cluster)
    versions(reads, 1)
    cluster.shown = None
    versions(reads, 3)
    assert cluster.reads == 4
    assert CurrentReads(cluster.get).get(*PLACE) is not None
    assert cluster.reads == 5


def test_change_during_read_is_read_again():
    cluster = Cluster()

    def change():
        cluster.change()
        cluster.show()
        cluster.while_reading = lambda: None

    cluster.while_reading = change
    assert versions(reading(cluster), 3) == ["1", "2", "2"]


def test_reader_cannot_change_what_is_remembered():
    reads = reading(Cluster())
    reads.get(*PLACE)["data"]["a"] = "changed"
    reads.get(*PLACE)["data"]["a"] = "changed"
    assert versions(reads, 1) == ["1"]


def test_own_write_is_no_reason_to_read():
    cluster = Cluster()
    reads = reading(cluster)
    versions(reads, 1)
    cluster.change()
    reads.wrote(cluster.written())
    cluster.show()
    assert versions(reads, 2) == ["2", "2"]
    assert cluster.reads == 1


def test_object_of_ours_is_not_read_where_watch_shows_none():
    cluster = Cluster()
    cluster.shown = 0
    assert reading(cluster).get_unwanted(*PLACE) is None
    assert cluster.reads == 0


def test_object_written_moment_ago_is_there_before_its_watch_shows_it():
    cluster = Cluster()
    cluster.shown = 0
    reads = reading(cluster)
    reads.wrote(cluster.written())
    assert reads.get_unwanted(*PLACE) is not None


def test_object_that_is_to_go_is_not_remembered():
    cluster = Cluster()
    reads = reading(cluster)
    versions(reads, 1)
    assert reads.get_unwanted(*PLACE) is not None
    versions(reads, 2)
    assert cluster.reads == 3


def test_large_object_is_read_each_time():
    cluster = Cluster()
    reads = CurrentReads(lambda *_: {**cluster.get(), "text": "x" * MOST_BYTES}, changes=cluster)
    versions(reads, 3)
    assert cluster.reads == 3


def test_object_that_is_not_read_in_round_is_forgotten():
    cluster = Cluster()
    reads = reading(cluster)
    for _ in range(4):
        versions(reads, 1)
        reads.next_round()
    assert cluster.reads == 1
    reads.next_round()
    versions(reads, 1)
    assert cluster.reads == 2


@given(st.lists(st.sampled_from(["change", "write", "show", "read", "round"]), max_size=30))
def test_read_is_never_older_than_what_was_shown(steps):
    cluster = Cluster()
    reads = reading(cluster)
    shown = 1
    for step in steps:
        if step == "change":
            cluster.change()
        elif step == "write":
            cluster.change()
            reads.wrote(cluster.written())
        elif step == "show":
            cluster.show()
            shown = cluster.version
        elif step == "round":
            reads.next_round()
        else:
            assert int(reads.get(*PLACE)["data"]["a"]) >= shown


def test_new_object_is_not_read_before_its_write_until_it_is_revealed():
    cluster = Cluster()
    cluster.shown = 0
    reads = reading(cluster)
    assert reads.get_ours(*PLACE) is None
    assert cluster.reads == 0
    assert reads.reveal(*PLACE) is not None
    assert reads.get_ours(*PLACE) is not None
    reads.next_round()
    reads.next_round()
    assert reads.get_ours(*PLACE) is None


def test_object_of_ours_that_watch_shows_is_read():
    reads = reading(Cluster())
    assert reads.get_ours(*PLACE) is not None
