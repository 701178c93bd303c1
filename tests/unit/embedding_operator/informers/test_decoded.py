"""Pods that were read last are held decoded, within a bound."""

import msgspec
import pytest

from embedding_operator.informers.decoded import Decoded
from embedding_operator.informers.kept import Kept
from embedding_operator.kube.kinds import Object


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was decoded."""
    done: list[str] = []
    value = Kept.value

    def counted(self: Kept) -> Object:
        done.append(self.name)
        return value(self)

    monkeypatch.setattr(Kept, "value", counted)
    return done


def test_unchanged_object_is_decoded_once(decodes: list[str]) -> None:
    held = Decoded()
    objects = [_kept("a"), _kept("b")]
    first = held.of(objects)
    assert first == [{"name": "a", "is": 1}, {"name": "b", "is": 1}]
    assert held.of(objects) == first
    assert decodes == ["a", "b"]


def test_nudged_object_is_not_decoded_again(decodes: list[str]) -> None:
    held = Decoded()
    held.of([_kept("a", version="1")])
    held.of([_kept("a", version="2")])
    assert decodes == ["a"]


def test_changed_object_has_its_new_value() -> None:
    held = Decoded()
    held.of([_kept("a")])
    assert held.of([_kept("a", number=2)]) == [{"name": "a", "is": 2}]


def test_objects_read_last_are_held_within_bound(decodes: list[str]) -> None:
    one = len(_kept("a").content or b"")
    held = Decoded(most_bytes=2 * one)
    held.of([_kept("a"), _kept("b")])
    held.of([_kept("a")])
    held.of([_kept("c")])
    decodes.clear()
    held.of([_kept("a"), _kept("c")])
    assert not decodes
    held.of([_kept("b")])
    assert decodes == ["b"]


def test_object_beyond_bound_is_decoded_each_time(decodes: list[str]) -> None:
    held = Decoded(most_bytes=3)
    assert held.of([_kept("a")]) == held.of([_kept("a")]) == [{"name": "a", "is": 1}]
    assert decodes == ["a", "a"]


def _kept(name: str, *, number: int = 1, version: str = "1") -> Kept:
    content = msgspec.json.encode({"name": name, "is": number})
    return Kept(namespace="team", name=name, version=version, content=content)
