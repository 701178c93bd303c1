"""Sidecars that share limits per minute over a real Redis, callers that want three times as much,
and a provider that writes down who came when.

What happens is drawn from a seed; the interleaving is the machine's.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import redis

from embedding_contract import document, names, provider_terms
from tests.parts import ports, rate_log, sidecar

ROOT = Path(__file__).parents[2]
REQUESTS_MODEL, TOKENS_MODEL = "text-embedding-3-small", "text-embedding-3-large"
CALLERS = 64
LONGEST_WORDS = 6
PATIENCE_SECONDS = 60.0
"""Longer than a request may take."""


@dataclass
class Came:
    """What came of a request: when it was sent and answered, and by whom."""

    pod: int
    word: str
    sent: float
    answered: float
    status: int
    code: str = ""
    retry_after: int | None = None


@dataclass
class Outcome:
    seconds: float
    lines: list[rate_log.Line]
    came: list[Came]
    killed: int = 0
    happened: list[str] = field(default_factory=list)

    def most(self, model: str) -> tuple[int, int]:
        return rate_log.most_in_a_minute([it for it in self.lines if it.model == model])


class Fire:
    """The processes of one test: `pods` sidecars of one policy."""

    def __init__(
        self,
        folder: Path,
        *,
        pods: int,
        requests: int,
        tokens: int | None = None,
        dishonest: bool = False,
        request_seconds: float | None = None,
        observes: bool = False,
    ) -> None:
        self._folder = folder
        self._document = folder / "document" / names.DOCUMENT_KEY
        self._secrets = folder / "secrets"
        for made in (self._document.parent, self._secrets, folder / "redis"):
            made.mkdir()
        self._redis = sidecar.Redis(folder / "redis")
        (self._secrets / names.SECRET_QUOTA_REDIS_URL).write_text(self._redis.url)
        (self._secrets / names.SECRET_API_TOKEN).write_text(sidecar.TOKEN)
        self.log = folder / "came.log"
        self.log.touch()
        port = ports.free()
        words = ["dishonest"] if dishonest else []
        command = (sys.executable, "-m", "tests.parts.rate_log", str(port), str(self.log), *words)
        self._provider = subprocess.Popen(command, cwd=ROOT)
        self.models = [REQUESTS_MODEL] if tokens is None else [REQUESTS_MODEL, TOKENS_MODEL]
        rates = {
            REQUESTS_MODEL: provider_terms.Rate(requests_per_minute=requests),
            TOKENS_MODEL: provider_terms.Rate(tokens_per_minute=tokens),
        }
        self._document.write_text(
            document.dump(
                document.PolicyDocument(
                    requires=("rate",),
                    namespace="fire",
                    name="rates",
                    providers=tuple(
                        document.Provider(
                            name=f"provider-{at}",
                            kind="OpenAI",
                            model=model,
                            base_url=f"http://127.0.0.1:{port}/v1",
                            rate=rates[model],
                            request_seconds=request_seconds,
                        )
                        for at, model in enumerate(self.models)
                    ),
                    quota=document.Quota(
                        daily_requests=None,
                        redis_url_file=names.SECRET_QUOTA_REDIS_URL,
                        observes=observes,
                    ),
                    cache=document.Cache(ttl_seconds=0),
                )
            ),
            encoding="utf-8",
        )
        sidecar.wait_until(lambda: sidecar.listens(port))
        self._started = 0
        self.pods = [self._start() for _ in range(pods)]
        for pod in self.pods:
            pod.wait()

    def script_runs(self) -> int:
        """How often a script ran in Redis, which is once for each message."""
        with redis.Redis.from_url(self._redis.url) as asked:
            return int(asked.info("commandstats")["cmdstat_evalsha"]["calls"])

    def end(self) -> None:
        """End all processes."""
        for pod in self.pods:
            pod.stop(signal.SIGKILL)
        self._provider.kill()
        self._provider.wait()
        self._redis.kill()

    def _start(self) -> sidecar.Sidecar:
        self._started += 1
        return sidecar.Sidecar(
            *("--document", self._document, "--secrets", self._secrets),
            environment={},
            log=self._folder / f"sidecar-{self._started}.log",
        )

    def run(self, *, seconds: float, seed: int, calm: bool, pace: float | None = None) -> Outcome:
        """Callers ask for so long; a caller's requests begin at least `pace` seconds apart."""
        return asyncio.run(self._run(seconds, random.Random(seed), calm=calm, pace=pace))

    async def _run(
        self, seconds: float, chance: random.Random, *, calm: bool, pace: float | None
    ) -> Outcome:
        self._outcome = Outcome(seconds, [], [])
        self._ends_at = time.monotonic() + seconds
        self._number = 0
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=PATIENCE_SECONDS),
        ) as self._session:
            callers = [
                asyncio.create_task(self._caller(at, random.Random(chance.random()), pace))
                for at in range(CALLERS)
            ]
            if not calm:
                await self._burn(chance)
            await asyncio.sleep(max(0.0, self._ends_at - time.monotonic()))
            self._outcome.lines = rate_log.lines(self.log)
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
        return self._outcome

    # --- callers

    async def _caller(self, at: int, chance: random.Random, pace: float | None) -> None:
        if pace is not None:
            await asyncio.sleep(pace * at / CALLERS)
        while True:
            began = time.monotonic()
            pod = at % len(self.pods) if pace is not None else chance.randrange(len(self.pods))
            if await self._ask(pod, self.models[at % len(self.models)], chance) != 200:
                await asyncio.sleep(chance.uniform(0.05, 0.3))
            if pace is not None:
                await asyncio.sleep(max(0.0, began + pace - time.monotonic()))

    async def _ask(self, pod: int, model: str, chance: random.Random) -> int:
        self._number += 1
        word = f"{self._number:07d}"
        text = " ".join([word] * chance.randint(1, LONGEST_WORDS))
        hangs_up = bool(self._outcome.happened) and chance.random() < 0.03
        url = f"http://127.0.0.1:{self.pods[pod].port}{names.PATH_EMBEDDINGS}"
        sent = time.time()
        try:
            async with self._session.post(
                url,
                json={"model": model, "input": text},
                timeout=aiohttp.ClientTimeout(total=0.5 if hangs_up else PATIENCE_SECONDS),
            ) as answer:
                said = await answer.json()
        except (aiohttp.ClientError, OSError):
            return 0
        code = "" if answer.status == 200 else said["error"]["code"]
        wait = answer.headers.get("retry-after")
        self._outcome.came.append(
            Came(pod, word, sent, time.time(), answer.status, code, int(wait) if wait else None)
        )
        return answer.status

    # --- what happens

    async def _burn(self, chance: random.Random) -> None:
        happens = {
            "kill pod": self._kill_a_pod,
            "stop pod": self._stop_a_pod,
            "kill redis": self._redis_dies,
            "restart redis": self._redis_restarts,
            "stop redis": self._redis_sleeps,
        }
        waking = []
        while time.monotonic() < self._ends_at - 5:
            await asyncio.sleep(chance.uniform(0.2, 4.0))
            kind = chance.choice(list(happens))
            self._outcome.happened.append(kind)
            waking.append(asyncio.create_task(happens[kind](chance)))
            if kind != "stop pod":
                await waking[-1]
        await asyncio.gather(*waking)

    async def _kill_a_pod(self, chance: random.Random) -> None:
        at = chance.randrange(len(self.pods))
        self.pods[at].stop(signal.SIGKILL)
        self._outcome.killed += 1
        self.pods[at] = self._start()

    async def _stop_a_pod(self, chance: random.Random) -> None:
        process = chance.choice(self.pods).process
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(chance.uniform(0.05, 5.0))
            process.send_signal(signal.SIGCONT)

    async def _redis_dies(self, chance: random.Random) -> None:
        self._redis.kill()
        await asyncio.sleep(chance.uniform(0.0, 0.3))
        await asyncio.to_thread(self._redis.start)

    async def _redis_restarts(self, chance: random.Random) -> None:
        del chance
        await asyncio.to_thread(self._redis.restart)

    async def _redis_sleeps(self, chance: random.Random) -> None:
        # Longer than a draw waits, so that some are carried out after they were given up.
        os.kill(self._redis.pid, signal.SIGSTOP)
        await asyncio.sleep(chance.uniform(0.5, 1.5))
        os.kill(self._redis.pid, signal.SIGCONT)
