"""Limits in money and of a month, observed for a day by two sidecars and enforced after it."""

import dataclasses
import re
import time

import pytest

from embedding_contract import document, fingerprint, money, names
from embedding_sidecar.quota import periods
from tests.fakes import provider
from tests.parts import clock, sidecar

pytestmark = pytest.mark.integration

KEY_FILE = names.secret_provider_key("main")
PRICE = "0.02"
NANOS_OF_TOKEN = 20
WORDS = 3
LIMITS = document.Quota(
    daily_requests=12,
    daily_cost=money.NANOS_PER_DOLLAR,
    monthly_requests=30,
    monthly_cost=money.NANOS_PER_DOLLAR,
    redis_url_file=names.SECRET_QUOTA_REDIS_URL,
    observes=True,
)


class Policy:
    """A document that two sidecars follow, and the clock of their Redis and of them."""

    def __init__(self, folder, start, url) -> None:
        self.clock = clock.Clock(folder / "clock")
        self.set(days=0)
        (folder / "redis").mkdir()
        self.redis = sidecar.Redis(folder / "redis", environment=self.clock.environment)
        self.file, secrets = folder / "policy" / names.DOCUMENT_KEY, folder / "secrets"
        self.file.parent.mkdir()
        secrets.mkdir()
        (secrets / KEY_FILE).write_text(provider.KEY)
        (secrets / names.SECRET_QUOTA_REDIS_URL).write_text(self.redis.url)
        (secrets / names.SECRET_API_TOKEN).write_text(sidecar.TOKEN)
        self.document = document.PolicyDocument(
            namespace="shop",
            name="main",
            providers=(
                document.Provider(
                    name="main",
                    kind="OpenAI",
                    model="text-embedding-3-small",
                    base_url=f"{url}/v1",
                    api_key_file=KEY_FILE,
                    price_per_million_tokens=PRICE,
                ),
            ),
            cache=document.Cache(ttl_seconds=0),
            quota=LIMITS,
        )
        self.sidecars: list[sidecar.Sidecar] = []
        self.write()
        self.sidecars = [
            start("--document", self.file, "--secrets", secrets, **self.clock.environment).wait()
            for _ in range(2)
        ]
        self.made = 0

    def set(self, *, days: int) -> None:
        """Noon, so many days after the first of January 2030."""
        noon = periods.MONTH.begin(60 * 12).timestamp() + (days + 0.5) * periods.DAY_SECONDS
        self.clock.set(ahead_seconds=int(noon - time.time()))

    def write(self, **quota) -> None:
        """Put a change of the quota in force in both."""
        changed = dataclasses.replace(self.document.quota, **quota)
        self.document = dataclasses.replace(self.document, quota=changed)
        text = document.dump(self.document)
        new = self.file.with_name("..new")
        new.write_text(text, encoding="utf-8")
        new.replace(self.file)
        expected = fingerprint.of_document(text.encode())
        sidecar.wait_until(lambda: all(_in_force(it) == expected for it in self.sidecars))

    def embed(self, at: int, count: int):
        """The answers to so many requests of three words each."""
        return [self._one(at) for _ in range(count)]

    def _one(self, at):
        self.made += 1
        return self.sidecars[at].embed(f"{self.made} of many")

    def used(self):
        """What both have used of each limit, by period and unit; asked, a sidecar reports."""
        pages = [self.sidecars[at].page(names.PATH_QUOTA) for at in (0, 1, 0)]
        used = [{(it["period"], it["unit"]): it["used"] for it in page["limits"]} for page in pages]
        assert used[-1] == used[-2]
        return used[-1]

    def reserved_of_month(self):
        """The calls of the month that leases hold."""
        page = self.sidecars[0].page(names.PATH_QUOTA)
        (found,) = [
            it["reserved"]
            for it in page["limits"]
            if (it["period"], it["unit"]) == ("month", "requests")
        ]
        return found


def _in_force(running):
    return running.page(names.PATH_CONFIG)["document_fingerprint"]


@pytest.fixture
def policy(tmp_path, start, provider_url):
    made = Policy(tmp_path, start, provider_url)
    yield made
    made.redis.kill()
    for running in (made.redis.pid, *(it.process.pid for it in made.sidecars)):
        clock.forget(running)


def observed(answers):
    return [it.headers.get("x-embedding-quota-observed") for it in answers]


def test_day_is_observed_and_then_enforced_with_same_count(policy):
    answers = policy.embed(0, 13) + policy.embed(1, 7)
    assert [it.status_code for it in answers] == [200] * 20
    assert observed(answers[:12]) == [None] * 12
    assert observed(answers[12:13]) == ["day.requests"]
    assert not any(name.startswith("x-ratelimit") for it in answers for name in it.headers)
    before = policy.used()
    cost = money.dollars(20 * WORDS * NANOS_OF_TOKEN)
    assert before == {
        ("day", "requests"): 20,
        ("day", "cost"): cost,
        ("month", "requests"): 20,
        ("month", "cost"): cost,
    }
    page = policy.sidecars[0].page(names.PATH_QUOTA)
    assert (page["mode"], page["exact"], page["exceeded"]) == ("Observe", True, False)
    shown = policy.sidecars[0].admin.get(names.PATH_METRICS).text
    counted = r'aos_embedding_quota_observed_total\{period="day",unit="requests"\} (\S+)'
    assert [float(it) >= 1 for it in re.findall(counted, shown)] == [True]

    policy.write(observes=False)
    refused = policy.embed(0, 1) + policy.embed(1, 1)
    assert [it.status_code for it in refused] == [429, 429]
    assert "This policy's 12 calls a day are used up" in refused[0].json()["error"]["message"]
    assert policy.used() == before
    assert policy.sidecars[0].page(names.PATH_QUOTA)["mode"] == "Enforce"

    # The day refused the calls; the month's units that were claimed beside it come back.
    sidecar.wait_until(lambda: policy.reserved_of_month() == 0, seconds=30)
    # The next day has ten more calls of the month.
    policy.set(days=1)
    answers = policy.embed(0, 12)
    assert [it.status_code for it in answers] == [200] * 10 + [429] * 2
    error = answers[-1].json()["error"]
    assert "This policy's 30 calls a month are used up" in error["message"]
    assert "2030-02-01T00:00:00Z" in error["message"]
    assert policy.used()["month", "requests"] == 30
