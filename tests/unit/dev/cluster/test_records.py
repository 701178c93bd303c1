"""A cluster can be found, whatever happened to the command that made it."""

import dataclasses
import os

import pytest

from dev.cluster import processes, records


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EMBEDDING_OPERATOR_CACHE", str(tmp_path))


def _record(**changes):
    whole = records.Record(
        name="one",
        form="node",
        slot=3,
        ports={"api": 20001},
        owner=processes.Identity(1, 2, "boot"),
        processes={"etcd": processes.Identity(7, 8, "boot")},
    )
    return dataclasses.replace(whole, **changes)


@pytest.mark.parametrize("changes", [{}, {"owner": None}, {"slot": None}, {"form": "node-ipv6"}])
def test_record_is_read_as_it_was_written(changes):
    record = _record(**changes)
    record.save()
    assert records.load("one") == record
    assert records.all_records() == [record]


def test_addresses_are_of_version_that_form_says():
    made = {it: _record(form=it).network for it in records.NODE_FORMS}
    assert {form: it and it.version for form, it in made.items()} == {"node": 4, "node-ipv6": 6}


def test_folder_of_cluster_is_closed_to_other_users():
    record = _record()
    record.save()
    assert record.folder.stat().st_mode & 0o077 == 0


def test_unknown_cluster_has_no_record():
    assert records.load("two") is None


@pytest.mark.parametrize("name", ["", "..", "../x", "A", "1a", "a/b", "a-", "a" * 33])
def test_name_cannot_lead_out_of_folder(name):
    with pytest.raises(records.InvalidNameError):
        records.load(name)


def test_cluster_whose_owner_lives_is_not_orphaned():
    assert not _record(owner=processes.identify(os.getpid())).orphaned()
    assert not _record(owner=None).orphaned()


def test_cluster_whose_owner_is_gone_is_orphaned():
    assert _record(owner=processes.Identity(os.getpid(), 1, processes.boot_id())).orphaned()
