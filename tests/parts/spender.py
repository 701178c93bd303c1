"""A process that spends a policy's quota and writes down every call: `python -m tests.parts.spender
REDIS_URL LIMIT LOG [--drain]`.

A line of the log is `+DAY` for a call that may be billed, written before anything else can happen,
and `-DAY` once it is certain that it was not, written before it is given back. So whenever the
process dies, the log never tells less than was spent. It ends on SIGTERM, with `--drain` as soon as
nothing is left.
"""

import asyncio
import os
import random
import signal
import sys

from embedding_contract import document
from embedding_sidecar import errors, quota, quota_store, redis_cache

SCOPE = "team/policy"
AT_ONCE = 8


async def spend(shared: quota.Quota, log: int, *, drain: bool, ending: asyncio.Event) -> None:
    """Make calls, a tenth of them not billed."""
    while not ending.is_set():
        try:
            reservation = await shared.reserve(tokens=10)
        except errors.QuotaExhausted:
            if drain:
                return
            await asyncio.sleep(0.05)
            continue
        except errors.Unavailable:
            await asyncio.sleep(0.05)
            continue
        os.write(log, b"+%d\n" % reservation.day)
        await asyncio.sleep(random.uniform(0, 0.02))
        billed = random.random() < 0.9
        if not billed:
            os.write(log, b"-%d\n" % reservation.day)
        await shared.settle(reservation, billed=billed, tokens=5 if billed else 0)


async def main(url: str, limit: int, path: str, *, drain: bool) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    client = redis_cache.connect(url)
    shared = quota.Quota(
        limits=document.Quota(daily_requests=limit),
        scope=SCOPE,
        store=quota_store.RedisStore(client),
    )
    # Not by cancelling: asyncio.wait_for, which the client uses, may lose that on Python 3.11.
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    await asyncio.gather(*(spend(shared, log, drain=drain, ending=ending) for _ in range(AT_ONCE)))
    await shared.close()
    await client.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], drain="--drain" in sys.argv))
