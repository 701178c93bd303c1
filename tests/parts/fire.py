"""Eight sidecars, 64 callers, a Redis and a provider that bills, while everything is killed and
stopped, midnight passes and the month ends.

Processes live on from run to run; each run is a policy of its own in a day of its own, and drawn
from a seed: what is limited, what happens, and when. The interleaving is the machine's.
"""

import asyncio
import contextlib
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import redis

from embedding_contract import document, fingerprint, names
from embedding_sidecar.quota import periods, quota_store
from embedding_sidecar.quota.claims import Amounts
from tests.parts import clock, judgement, ports, sidecar
from tests.parts.judgement import LONGEST_WORDS, PODS, Call, Outcome, Plan

ROOT = Path(__file__).parents[2]
MODEL = "text-embedding-3-small"
CALLERS = 64
MUTE = 2
PATIENCE_SECONDS = 6.0
DRAIN_SECONDS = 30.0
DAY = periods.DAY_SECONDS


@dataclass
class Pod:
    """A place for a sidecar, in which another is started when one is killed."""

    clock: clock.Clock
    process: sidecar.Sidecar
    unsettled: set[int] = field(default_factory=set)
    stopped: int = 0


class Fire:
    """The processes, and a run after the other through them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._document = folder / "document" / names.DOCUMENT_KEY
        self._secrets = folder / "secrets"
        for made in (self._document.parent, self._secrets, folder / "redis"):
            made.mkdir()
        self._today = int(time.time() // DAY)
        self._log_read = self._number = self._started = 0
        self._pods: list[Pod] = []
        self._clock = clock.Clock(folder / "redis.clock")
        self._redis = sidecar.Redis(folder / "redis", environment=self._clock.environment)
        (self._secrets / names.SECRET_QUOTA_REDIS_URL).write_text(self._redis.url)
        (self._secrets / names.SECRET_API_TOKEN).write_text(sidecar.TOKEN)
        self._billed = folder / "billed.log"
        port = ports.free()
        self._url = f"http://127.0.0.1:{port}/v1"
        command = (sys.executable, "-m", "tests.parts.biller", str(port), str(self._billed))
        self._biller = subprocess.Popen(command, cwd=ROOT)
        self._port = port

    def begin(self) -> None:
        """Start the sidecars, and wait until everybody listens."""
        self._put_in_force(document.Quota())
        for number in range(PODS):
            own = clock.Clock(self._folder / f"pod-{number}.clock")
            self._pods.append(Pod(own, self._start(own)))
        sidecar.wait_until(lambda: sidecar.listens(self._port))
        for pod in self._pods:
            pod.process.wait()

    def end(self) -> None:
        """End all processes."""
        for pod in self._pods:
            pod.process.stop(signal.SIGKILL)
            clock.forget(pod.process.process.pid)
        self._biller.kill()
        self._biller.wait()
        self._kill_redis()

    def run(self, seed: int) -> Outcome:
        """One run; all processes live after it."""
        return asyncio.run(self._run(Plan.of(seed)))

    async def _run(self, plan: Plan) -> Outcome:
        limit = plan.limits.get
        text = self._put_in_force(
            document.Quota(
                daily_requests=limit(("day", "calls")),
                daily_tokens=limit(("day", "tokens")),
                daily_cost=limit(("day", "cost")),
                monthly_requests=limit(("month", "calls")),
                monthly_tokens=limit(("month", "tokens")),
                monthly_cost=limit(("month", "cost")),
                redis_url_file=names.SECRET_QUOTA_REDIS_URL,
            )
        )
        self._random = random.Random(plan.seed + 1)
        self._calls: list[Call] = []
        self._killed = self._most_lost = self._hung_up = 0
        await self._in_force(fingerprint.of_document(text.encode()))
        ends_at = self._set_clocks(plan)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=PATIENCE_SECONDS),
        ) as self._session:
            async with self._callers():
                await self._burn(plan)
                if ends_at is not None:
                    await asyncio.sleep(ends_at + 0.1 - time.time())
            # Some sleep while the others use up the day; nothing that they hold is given away.
            mute = self._random.sample(self._pods, MUTE)
            for pod in mute:
                pod.process.process.send_signal(signal.SIGSTOP)
            await self._use_up(pod for pod in self._pods if pod not in mute)
            for pod in mute:
                pod.process.process.send_signal(signal.SIGCONT)
            await asyncio.gather(*self._asking)
            await self._use_up(self._pods)
        return self._outcome(plan, ends_at)

    def _put_in_force(self, limits: document.Quota) -> str:
        """Put a policy of its own in force; the document's text."""
        self._number += 1
        self._scope = f"fire/run-{self._number}"
        provider = document.Provider(
            name="main",
            kind="OpenAI",
            model=MODEL,
            base_url=self._url,
            price_per_million_tokens=judgement.PRICE,
        )
        text = document.dump(
            document.PolicyDocument(
                namespace="fire",
                name=f"run-{self._number}",
                providers=(provider,),
                quota=limits,
                cache=document.Cache(ttl_seconds=0),
            )
        )
        new = self._document.with_name("..new")
        new.write_text(text, encoding="utf-8")
        new.replace(self._document)
        return text

    async def _in_force(self, expected: str) -> None:
        def obey() -> bool:
            pages = [pod.process.page(names.PATH_CONFIG) for pod in self._pods]
            return all(page["document_fingerprint"] == expected for page in pages)

        for pod in self._pods:
            pod.unsettled = set()
            pod.process.wait()
        await asyncio.to_thread(sidecar.wait_until, obey)

    def _set_clocks(self, plan: Plan) -> float | None:
        """Bring everybody into a new day; when it ends by this machine's clock, if in this run."""
        self._today = self._day_after(self._today + 2, ends_month=plan.ends == "month")
        start, ends_at = int(time.time()), None
        ahead = self._today * DAY + DAY // 2 - start
        if plan.ends is not None:
            ends_at = start + 1 + math.ceil(plan.ends_at)
            ahead = (self._today + 1) * DAY - ends_at
        self._clock.set(ahead_seconds=ahead)
        for pod, skew in zip(self._pods, plan.skews, strict=True):
            pod.clock.set(ahead_seconds=ahead + skew)
        return ends_at

    def _day_after(self, first: int, *, ends_month: bool) -> int:
        """The next day, from this one on, that ends its month, or does not."""
        month = periods.MONTH
        ends = month.number((first + 1) * DAY) != month.number(first * DAY)
        return first if ends is ends_month else self._day_after(first + 1, ends_month=ends_month)

    # --- what happens

    async def _burn(self, plan: Plan) -> None:
        start = time.monotonic()
        happens = {
            "kill pod": self._kill_a_pod,
            "stop pod": self._stop_a_pod,
            "kill redis": self._redis_dies,
            "restart redis": self._redis_restarts,
            "stop redis": self._redis_sleeps,
        }
        waking = []
        for at, kind in plan.events:
            await asyncio.sleep(max(0.0, start + at - time.monotonic()))
            waking.append(asyncio.create_task(happens[kind]()))
        await asyncio.gather(*waking)

    async def _kill_a_pod(self) -> None:
        pod = self._random.choice(self._pods)
        pod.process.stop(signal.SIGKILL)
        clock.forget(pod.process.process.pid)
        self._killed += 1
        self._most_lost += periods.DAY.grant_calls + len(pod.unsettled)
        pod.unsettled = set()
        pod.process = self._start(pod.clock)

    async def _stop_a_pod(self) -> None:
        process = self._random.choice(self._pods).process.process
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self._random.uniform(0.05, 1.2))
        process.send_signal(signal.SIGCONT)

    async def _redis_dies(self) -> None:
        self._kill_redis()
        await asyncio.sleep(self._random.uniform(0.0, 0.3))
        await asyncio.to_thread(self._redis.start)

    async def _redis_restarts(self) -> None:
        before = self._redis.pid
        await asyncio.to_thread(self._redis.shut_down)
        await asyncio.to_thread(self._redis.start)
        clock.forget(before)

    async def _redis_sleeps(self) -> None:
        # Longer than a claim waits, so that some are carried out after they were given up.
        os.kill(self._redis.pid, signal.SIGSTOP)
        await asyncio.sleep(quota_store.BUDGET_SECONDS + 0.2)
        os.kill(self._redis.pid, signal.SIGCONT)

    def _kill_redis(self) -> None:
        self._redis.kill()
        clock.forget(self._redis.pid)

    def _start(self, own: clock.Clock) -> sidecar.Sidecar:
        self._started += 1
        return sidecar.Sidecar(
            *("--document", self._document, "--secrets", self._secrets),
            environment=own.environment,
            log=self._folder / f"sidecar-{self._started}.log",
        )

    # --- who asks

    @contextlib.asynccontextmanager
    async def _callers(self) -> AsyncIterator[None]:
        """Callers ask all the time; their last requests may still be under way afterwards."""
        self._ending = False
        self._asking = [asyncio.create_task(self._caller()) for _ in range(CALLERS)]
        yield
        self._ending = True

    async def _caller(self) -> None:
        while not self._ending:
            if await self._ask(self._random.choice(self._pods)) != "made":
                await asyncio.sleep(self._random.uniform(0.01, 0.1))

    async def _ask(self, pod: Pod) -> str:
        """What came of a request: `made`, `used up`, or anything else."""
        words = self._random.randint(1, LONGEST_WORDS)
        call = Call(time.time(), words)
        number = len(self._calls)
        self._calls.append(call)
        pod.unsettled.add(number)
        # One in ten is refused by the provider, which bills nothing.
        text = "too long" if self._random.random() < 0.1 else " ".join([f"{number:07d}"] * words)
        hangs_up = self._random.random() < 0.03
        timeout = aiohttp.ClientTimeout(total=0.01 if hangs_up else PATIENCE_SECONDS)
        url = f"http://127.0.0.1:{pod.process.port}{names.PATH_EMBEDDINGS}"
        unsettled = pod.unsettled
        try:
            async with self._session.post(
                url, json={"model": MODEL, "input": text}, timeout=timeout
            ) as answer:
                said = await answer.json()
        except (aiohttp.ClientError, OSError):
            # Whether the call goes on is not known; it may be lost with the pod.
            self._hung_up += 1
            return "unknown"
        unsettled.discard(number)
        call.ended = time.time()
        if answer.status == 200:
            return "made"
        return "used up" if said["error"]["code"] == "insufficient_quota" else "refused"

    async def _use_up(self, pods: Iterable[Pod]) -> None:
        """Ask until none of these pods makes a call any more."""
        asked = list(pods)
        async with asyncio.timeout(DRAIN_SECONDS):
            while any(await asyncio.gather(*(self._ask_until_used_up(pod) for pod in asked))):
                pass

    async def _ask_until_used_up(self, pod: Pod) -> bool:
        """Whether any call could be made."""
        could = False
        while (came := await self._ask(pod)) != "used up":
            could = could or came == "made"
            if came == "unknown":
                await asyncio.sleep(0.02)
            if came == "refused":
                await asyncio.sleep(0.01)
        return could

    # --- what came of it

    def _outcome(self, plan: Plan, ends_at: float | None) -> Outcome:
        with self._billed.open("rb") as log:
            log.seek(self._log_read)
            lines = [line.split() for line in log.read().splitlines()]
            self._log_read = log.tell()
        return judgement.judge(
            plan,
            judgement.Seen(
                billed=[
                    judgement.Billed(float(at), int(tokens), int(counted))
                    for at, tokens, counted in lines
                ],
                calls=self._calls,
                counted=self._counted(),
                ended_at=ends_at,
                most_lost=self._most_lost,
                hung_up=self._hung_up,
                killed=self._killed,
            ),
        )

    def _counted(self) -> dict[str, list[Amounts]]:
        """The amounts of each day and each month, by the store."""
        found: dict[str, list[Amounts]] = {"day": [], "month": []}
        with redis.Redis(port=self._redis.port) as asked:
            for key in asked.keys(f"{quota_store.PREFIX}{{{self._scope}}}:*"):
                amounts = asked.hmget(key, "calls", "tokens", "cost")
                period = "month" if b":month:" in key else "day"
                found[period].append(Amounts(*(int(it or 0) for it in amounts)))
        return found
