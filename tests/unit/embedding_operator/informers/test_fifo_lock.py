"""The lock is fair: no caller gets it twice before one that waited earlier."""

import threading
from itertools import pairwise

from embedding_operator.informers.fifo_lock import FifoLock
from tests.parts.waiting import eventually


def test_turns_are_given_in_order_in_which_they_were_asked_for():
    turn, served = FifoLock(), []

    def ask(number):
        with turn:
            served.append(number)

    threads = []
    with turn:
        for number in range(20):
            threads.append(threading.Thread(target=ask, args=(number,)))
            threads[-1].start()
            eventually(lambda: len(turn._waiting) == len(threads))
    for thread in threads:
        thread.join()
    assert served == list(range(20))
    assert not turn.locked()


def test_two_that_ask_again_and_again_have_every_second_turn():
    turn, served = FifoLock(), []

    def ask(name):
        for _ in range(200):
            with turn:
                served.append(name)

    threads = [threading.Thread(target=ask, args=(name,)) for name in "ab"]
    with turn:
        for thread in threads:
            thread.start()
        eventually(lambda: len(turn._waiting) == len(threads))
    for thread in threads:
        thread.join()
    # One may wait a moment to ask again; with a plain lock there would be a handful of changes.
    assert sum(one != other for one, other in pairwise(served)) > 200


def test_turn_is_held_by_one_reader():
    turn, within, most = FifoLock(), 0, 0

    def ask():
        nonlocal within, most
        for _ in range(500):
            with turn:
                within += 1
                most = max(most, within)
                within -= 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert not turn.locked()
