"""Rows leased by workers, on a real PostgreSQL: those claimed, and those still written."""

import asyncio
import dataclasses

import pytest

from embedding_contract.index_document import Limits
from embedding_vectors.backfill import pace, places, sweep
from embedding_vectors.backfill.claims import Batch, Claims, Settled
from embedding_vectors.database.connections import Connections
from embedding_vectors.errors import DatabaseError
from embedding_vectors.schema import apply
from tests.parts import filling

pytestmark = pytest.mark.integration

VECTOR = b"\0\0\0\0" * 8


class Hands:
    """Two workers' claims of the same target."""

    def __init__(self, texts: filling.Texts, *, document, lease_seconds: float = 60) -> None:
        self.connections = Connections(lambda: texts.dsn, most=4)
        self.document = document
        self.one, self.two = (
            Claims(self.connections, document, owner=name, lease_seconds=lease_seconds)
            for name in ("one", "two")
        )

    async def prepared(self) -> places.Place:
        facts = await apply.apply(self.connections, self.document, say=lambda _: None)
        place = places.of(self.document, facts, facts.targets[0])
        assert place is not None
        found = sweep.Found()
        while not found.is_over:
            await sweep.next_page(self.connections, place, found)
        return place


def played(texts: filling.Texts, play, **options) -> None:
    async def run() -> None:
        hands = Hands(texts, document=options.pop("document", texts.index), **options)
        try:
            await play(hands, await hands.prepared())
        finally:
            hands.connections.close()

    texts.insert({number: f"text {number}" for number in range(6)})
    asyncio.run(run())


def settled(batch) -> list[Settled]:
    return [Settled(key=it.key, text_hash=it.text_hash, vector=VECTOR) for it in batch.rows]


def filled(texts: filling.Texts) -> list[int]:
    rows = texts.server.execute("SELECT id FROM docs WHERE small IS NOT NULL ORDER BY id")
    return [it[0] for it in rows]


def test_two_workers_hold_different_rows_in_order_of_their_keys(texts):
    async def play(hands, place):
        one = await hands.one.claim(place, most=4)
        two = await hands.two.claim(place, most=4)
        assert [it.key for it in one.rows] == ['["0"]', '["1"]', '["2"]', '["3"]']
        assert [it.key for it in two.rows] == ['["4"]', '["5"]']
        assert (await hands.one.claim(place, most=4)).claimed == 0

    played(texts, play)


def test_rows_that_transaction_holds_are_left_out_and_not_awaited(texts):
    async def play(hands, place):
        with texts.server.connect() as other:
            other.execute("BEGIN")
            other.execute("SELECT FROM embedding_state WHERE key = '[\"0\"]' FOR UPDATE")
            batch = await hands.one.claim(place, most=2)
            assert [it.key for it in batch.rows] == ['["1"]', '["2"]']
            other.execute("ROLLBACK")

    played(texts, play)


def test_text_that_changed_meanwhile_gets_no_vector_and_stays_pending(texts):
    async def play(hands, place):
        batch = await hands.one.claim(place, most=6)
        texts.server.execute("UPDATE docs SET body = 'changed' WHERE id = 2")
        texts.server.execute("DELETE FROM docs WHERE id = 3")
        written = await hands.one.settle(place, settled(batch))
        assert set(written) == {'["0"]', '["1"]', '["4"]', '["5"]'}
        assert filled(texts) == [0, 1, 4, 5]
        assert texts.counts(place.id) == (6, 4, 0)

    played(texts, play)


def test_row_that_application_has_locked_is_not_awaited(texts):
    async def play(hands, place):
        batch = await hands.one.claim(place, most=6)
        with texts.server.connect() as application:
            application.execute("BEGIN")
            application.execute("UPDATE docs SET title = 'x' WHERE id = 1")
            written = await hands.one.settle(place, settled(batch))
            assert '["1"]' not in written
            assert len(written) == 5
            application.execute("COMMIT")

    played(texts, play)


def test_lease_that_ran_out_is_another_workers_and_late_one_writes_nothing(texts):
    async def play(hands, place):
        late = await hands.one.claim(place, most=6)
        again = Batch()
        while not again.claimed:
            again = await hands.two.claim(place, most=6)
        assert await hands.one.settle(place, settled(late)) == ()
        assert filled(texts) == []
        assert len(await hands.two.settle(place, settled(again))) == 6

    played(texts, play, lease_seconds=0.2)


def test_rows_given_back_are_free_at_once_and_others_later(texts):
    async def play(hands, place):
        batch = await hands.one.claim(place, most=6)
        keys = [it.key for it in batch.rows]
        await hands.one.give_back(place, keys[:2])
        await hands.one.give_back(place, keys[2:4], after_seconds=60, charged=1)
        # Nobody gives back what another holds.
        await hands.two.give_back(place, keys[4:])
        assert [it.key for it in (await hands.two.claim(place, most=6)).rows] == keys[:2]
        await hands.one.give_all_back(place)
        assert [it.key for it in (await hands.two.claim(place, most=6)).rows] == keys[4:]

    played(texts, play)


def test_claim_beyond_minute_claims_nothing(texts):
    document = dataclasses.replace(texts.index, limits=Limits(batch_rows=1, requests_per_minute=2))

    async def play(hands, place):
        await hands.one.claim(place, most=1)
        await hands.two.claim(place, most=1)
        with pytest.raises(pace.PacedError) as paced:
            await hands.one.claim(place, most=1)
        assert 0 < paced.value.wait_seconds <= 60
        assert len(texts.leases()) == 2

    played(texts, play, document=document)


def test_value_that_column_does_not_take_writes_nothing(texts):
    async def play(hands, place):
        batch = await hands.one.claim(place, most=6)
        (first, *rest) = settled(batch)
        broken = dataclasses.replace(first, vector=b"\0\0\xc0\x7f" * 8)  # not a number
        with pytest.raises(DatabaseError) as refused:
            await hands.one.settle(place, [broken, *rest])
        assert refused.value.problem.reason == "ValueRefused"
        assert filled(texts) == []

    played(texts, play)
