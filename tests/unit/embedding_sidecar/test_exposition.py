"""A scrape is rendered at most once a second, and never old (field case D10)."""

import asyncio

import pytest

from embedding_sidecar.api.management import Exposition


def test_d10_scrapes_within_second_share_later_rendering():
    async def use():
        rendered = []

        def render():
            rendered.append(asyncio.get_running_loop().time())
            return b"%d" % len(rendered)

        text = Exposition(render, every_seconds=0.05).text
        first = await text()
        others = await asyncio.gather(*(text() for _ in range(100)))
        return first, set(others), rendered

    first, others, rendered = asyncio.run(use())
    assert (first, others) == (b"1", {b"2"})
    assert rendered[1] - rendered[0] >= 0.05


def test_leaving_scraper_takes_nothing_from_others():
    async def use():
        text = Exposition(lambda: b"text", every_seconds=0.05).text
        await text()
        leaves, stays = asyncio.ensure_future(text()), asyncio.ensure_future(text())
        await asyncio.sleep(0)
        leaves.cancel()
        return await stays

    assert asyncio.run(use()) == b"text"


def test_failed_rendering_fails_its_waiters_and_next_is_tried():
    async def use():
        outcomes = iter([b"one", ValueError("no"), b"three"])

        def render():
            outcome = next(outcomes)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        text = Exposition(render, every_seconds=0.05).text
        assert await text() == b"one"
        with pytest.raises(ValueError, match="no"):
            await text()
        return await text()

    assert asyncio.run(use()) == b"three"
