"""Lines from pieces of any size."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.informers import lines
from embedding_operator.informers.fifo_lock import FifoLock

LINES = st.lists(st.binary(max_size=40).map(lambda it: it.replace(b"\n", b"")), max_size=12)


def pieces(body, size):
    return [body[start : start + size] for start in range(0, len(body), size)]


@given(told=LINES, cut=st.binary(max_size=60), size=st.integers(1, 80), most=st.integers(1, 50))
def test_lines_are_those_that_were_sent_and_long_ones_are_told_apart(told, cut, size, most):
    cut = cut.replace(b"\n", b"")
    body = b"".join(it + b"\n" for it in told) + cut
    found = list(lines.split(pieces(body, size), most_bytes=most, lock=FifoLock()))
    wanted = [None if len(it) > most else bytearray(it) for it in told if it]
    # The cut line is no line; that it is too long may be known before its end.
    assert found == wanted or (len(cut) > most and found == [*wanted, None])


def test_more_than_little_is_held_in_turn_only():
    turn = FifoLock()
    large = b"x" * (lines.SMALL_BYTES + 1)
    found = lines.split([b"a\n", large, b"\n", b"b\n"], most_bytes=10**6, lock=turn)
    assert bytes(next(found) or b"") == b"a"
    assert not turn.locked()
    assert bytes(next(found) or b"") == large
    assert turn.locked()
    assert bytes(next(found) or b"") == b"b"
    assert not turn.locked()


def test_turn_is_given_back_when_connection_ends():
    turn = FifoLock()

    def ends():
        yield b"x" * (lines.SMALL_BYTES + 1)
        raise OSError

    try:
        list(lines.split(ends(), most_bytes=10**6, lock=turn))
    except OSError:
        assert not turn.locked()


def test_holder_is_told_while_long_line_holds_its_turn():
    told: list[bool] = []
    large = b"x" * (lines.SMALL_BYTES + 1)
    found = lines.split(
        [b"a\n", large, b"\n", b"b\n"], most_bytes=10**6, lock=FifoLock(), holding=told.append
    )
    next(found)
    assert told == []
    next(found)
    assert told == [True]
    next(found)
    assert told == [True, False]


def test_over_long_line_is_not_held():
    held = []
    found: Any

    def measured():
        for _ in range(1000):
            yield b"x" * 100
            held.append(len(found.gi_frame.f_locals["held"]))
        yield b"\n"

    found = lines.split(measured(), most_bytes=1000, lock=FifoLock())
    assert list(found) == [None]
    assert max(held) <= 1000
