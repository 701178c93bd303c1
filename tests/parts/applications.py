"""Applications that ask sidecars at a steady rate, and an oracle that looks at each answer.

The stand-in provider makes its vectors of model, size and text, so the bits of an answer say of
which space they are, whatever its headers say.
"""

import asyncio
import base64
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import aiohttp

from embedding_contract import names
from tests.fakes import provider

PATIENCE_SECONDS: Final = 60.0
REPEATED: Final = 0.2
"""The share of texts that were asked for before."""
_REMEMBERED: Final = 500
MOST_TEXTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """Who asks for what, how often, and by which sidecars in turn.

    `spaces` has the space of each size of vectors, None for the model's own; one is drawn for each
    request. Refusals with `allowed` codes are no failures.
    """

    name: str
    ports: Sequence[int]
    a_second: float
    model: str
    spaces: Mapping[int | None, str]
    allowed: frozenset[str] = frozenset()


@dataclass(slots=True)
class Seen:
    """The answers of a campaign; lists have a line for each."""

    answered: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    by_provider: Counter[str] = field(default_factory=Counter)
    hits: int = 0
    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Searcher:
    """An application that searches by a sidecar; `may_be_refused` says so of a moment.

    A database that is away is no failure then.
    """

    port: int
    a_second: float
    space: str
    may_be_refused: Callable[[float], bool]


class Load:
    """All applications, in a thread with a loop of its own, until the end of the context."""

    def __init__(self, applications: Sequence[Application], searcher: Searcher, *, seed: int):
        self.seen = Seen()
        self._applications = applications
        self._searcher = searcher
        self._chance = random.Random(seed)
        self._texts: deque[str] = deque(maxlen=_REMEMBERED)
        self._began = time.monotonic()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    async def _run(self) -> None:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=PATIENCE_SECONDS),
        ) as self._session:
            asking = [self._paced(it.a_second, self._embed, it) for it in self._applications]
            await asyncio.gather(
                *asking, self._paced(self._searcher.a_second, self._search, self._searcher)
            )

    async def _paced(self, a_second: float, ask: Callable[..., Any], who: object) -> None:
        """Requests in step with a clock, and not with their answers."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as asked:
            number = 0
            while not self._ending.is_set():
                asked.create_task(ask(who, number))
                number += 1
                await asyncio.sleep(max(0.0, began + number / a_second - time.monotonic()))

    async def _post(self, url: str, body: object) -> tuple[int, Mapping[str, str], Any]:
        """Status, headers and body; status 0 where no answer came. The time is noted."""
        began = time.monotonic()
        try:
            async with self._session.post(url, json=body) as answer:
                return answer.status, answer.headers, await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return 0, {}, {"error": {"code": repr(error)}}
        finally:
            took = time.monotonic() - began
            self.seen.slowest_seconds = max(self.seen.slowest_seconds, took)

    # --- vectors

    async def _embed(self, who: Application, number: int) -> None:
        size = self._chance.choice(list(who.spaces))
        texts = [self._text(who, number, at) for at in range(self._chance.randint(1, MOST_TEXTS))]
        url = f"http://127.0.0.1:{who.ports[number % len(who.ports)]}{names.PATH_EMBEDDINGS}"
        asked_at = time.monotonic() - self._began
        body: dict[str, object] = {"model": who.model, "input": texts}
        body["encoding_format"] = "base64"
        if size is not None:
            body["dimensions"] = size
        status, headers, answer = await self._post(url, body)
        if status == 200:
            self.seen.answered[who.name] += 1
            self.seen.by_provider[headers["x-embedding-provider"]] += 1
            self.seen.hits += headers["x-embedding-cache"] == "hit"
            self._compare(who, size, texts, headers, answer)
        elif (code := answer["error"]["code"]) in who.allowed:
            self.seen.refused[code] += 1
        else:
            what = f"{who.name} at {asked_at:.1f} s: {status} {answer['error']}"
            self.seen.failed.append(what)

    def _text(self, who: Application, number: int, at: int) -> str:
        if self._texts and self._chance.random() < REPEATED:
            return self._chance.choice(self._texts)
        text = f"{who.name} {number} {at} {self._chance.random()}"
        self._texts.append(text)
        return text

    def _compare(
        self,
        who: Application,
        size: int | None,
        texts: Sequence[str],
        headers: Mapping[str, str],
        answer: Mapping[str, Any],
    ) -> None:
        got = [base64.b64decode(it["embedding"]) for it in answer["data"]]
        wanted = [provider.vector(who.model, it, size or provider.DIMENSIONS) for it in texts]
        told = (headers["x-embedding-model"], headers["x-embedding-space"])
        if got != wanted or told != (who.model, who.spaces[size]):
            self.seen.mixed.append(f"{who.name}: {size} for {texts}: {told}")

    # --- searches

    async def _search(self, who: Searcher, number: int) -> None:
        asked_at = time.monotonic()
        url = f"http://127.0.0.1:{who.port}{names.PATH_SEARCH}"
        status, _, answer = await self._post(url, {"query": f"a question {number}", "k": 1})
        if status != 200:
            code = answer["error"]["code"]
            if code == "database_unavailable" and who.may_be_refused(asked_at):
                self.seen.refused[code] += 1
                return
            what = f"search at {asked_at - self._began:.1f} s: {status} {answer['error']}"
            self.seen.failed.append(what)
            return
        mode = answer["mode"]
        self.seen.answered[f"search by {answer['reason'] or mode}"] += 1
        if mode != ("vector" if answer["reason"] is None else "text"):
            self.seen.failed.append(f"search without vectors or a reason: {answer}")
        if mode == "vector" and answer["space"] != who.space:
            self.seen.mixed.append(f"search: {answer['space']}")
