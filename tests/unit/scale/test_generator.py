import pytest
import yaml

from tests.scale import generator, machine
from tests.scale.machine import GIB, MIB

GOOD = {
    "policies": 100,
    "namespaces": 10,
    "secretsOfEach": 3,
    "podsOfEach": 0,
    "idleSeconds": 60,
    "editsPerSecond": 5,
    "editSeconds": 10,
    "rounds": 5,
}


def read(tmp_path, **changed):
    file = tmp_path / "size.yaml"
    fields = {key: it for key, it in {**GOOD, **changed}.items() if it is not None}
    file.write_text(yaml.safe_dump(fields))
    return generator.read(file)


def test_file_says_all_of_run(tmp_path):
    found = read(tmp_path)
    assert (found.name, found.policies, found.secrets, found.edits) == ("size", 100, 300, 50)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"podz": 1}, r"^size\.yaml: podz is no field; there are policies, namespaces"),
        ({"policies": "many"}, r"^size\.yaml: policies: 'many' is no whole number of at least 1$"),
        ({"policies": True}, r"^size\.yaml: policies: True is no whole number"),
        ({"rounds": 0}, r"^size\.yaml: rounds: 0 is no whole number of at least 1$"),
        ({"secretsOfEach": -1}, r"^size\.yaml: secretsOfEach: -1 is no whole number of at least 0"),
        ({"rounds": None}, r"^size\.yaml: rounds is missing$"),
        ({"namespaces": 101}, r"^size\.yaml: namespaces: 101 are more than there are policies$"),
        ({"editSeconds": 21}, r"^size\.yaml: editsPerSecond: 105 edits are more than"),
    ],
)
def test_wrong_field_is_named_with_its_file(tmp_path, changed, said):
    with pytest.raises(generator.InvalidGeneratorError, match=said):
        read(tmp_path, **changed)


@pytest.mark.parametrize("text", ["", "[1]", "a text"])
def test_file_without_fields_is_named(tmp_path, text):
    file = tmp_path / "size.yaml"
    file.write_text(text)
    with pytest.raises(generator.InvalidGeneratorError, match=r"^size\.yaml: no fields"):
        generator.read(file)


@pytest.mark.parametrize("name", ["nobody", "ranges", "../scale/smallest-"])
def test_unknown_generator_is_refused_with_those_there_are(name):
    with pytest.raises(generator.InvalidGeneratorError, match="there are smallest, pods-500"):
        generator.named(name)


def test_every_generator_of_repository_is_valid():
    assert "smallest" in generator.names()
    assert generator.named("smallest").rounds == 1


def here(**changed):
    given = {
        "cores": 2,
        "memory_bytes": 24 * GIB,
        "available_bytes": 24 * GIB,
        "disk_bytes": 70 * GIB,
        "load": 0.5,
    }
    return machine.Machine(**{**given, **changed})


@pytest.mark.parametrize(
    ("changed", "held", "said"),
    [
        ({"policies": 100_000}, {}, r"^size\.yaml: policies: 100,000 policies need .* of memory"),
        ({"secretsOfEach": 1_000}, {"available_bytes": 10 * GIB}, r"^size\.yaml: secretsOfEach: "),
        ({"podsOfEach": 1_000}, {}, r"^size\.yaml: podsOfEach: 100,000 pods need .* of memory in"),
        ({}, {"disk_bytes": 500 * MIB}, r"GiB of disk in all, and 0\.5 GiB are free$"),
    ],
)
def test_size_that_machine_cannot_hold_is_named(tmp_path, changed, held, said):
    with pytest.raises(machine.TooLargeError, match=said):
        machine.check(read(tmp_path, **changed), here(**held))


def test_size_that_fits_is_let_through(tmp_path):
    machine.check(read(tmp_path, policies=5_000), here())


def test_load_above_cores_is_busy():
    assert here(load=2.1).is_busy
    assert not here(load=2.0).is_busy


def test_machine_is_read_from_system(tmp_path):
    found = machine.seen(tmp_path)
    assert 0 < found.available_bytes <= found.memory_bytes
    assert found.disk_bytes > 0
