"""The environment as a policy: every value is used as meant, or the start ends with its name."""

import pytest

from embedding_contract import document, names
from embedding_sidecar.engine import service
from embedding_sidecar.policy import settings, variables

KEYS = {"OPENAI_API_KEY": "sk-1", "VOYAGE_API_KEY": "pa-1"}


def read(**environment):
    return settings.from_environment({**KEYS, **environment})


def test_key_is_enough():
    found = settings.from_environment({"OPENAI_API_KEY": "sk-1"})
    policy = found.document
    assert policy.scope == "default"
    assert [provider.model for provider in policy.providers] == ["text-embedding-3-small"]
    assert policy.providers[0].base_url == "https://api.openai.com/v1"
    assert policy.quota == document.Quota(daily_requests=10_000, reserved_requests=2_000)
    assert policy.cache == document.Cache(ttl_seconds=604_800)
    assert policy.failover == document.Failover(enabled=False, across_spaces=False)
    assert policy.passthrough.base_url == "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("written", "calls"), [("0", 0), ("7", 7), ("500", 90), ("0%", 0), ("33%", 30), ("100%", 90)]
)
def test_reserve_is_calls_or_share_of_day(written, calls):
    made = read(EMBEDDING_DAILY_QUOTA="90", EMBEDDING_RESERVE_FOR_APPLICATIONS=written)
    assert made.document.quota.reserved_requests == calls


@pytest.mark.parametrize(("written", "percent"), [("33%", 33), ("500", 20), ("", 20)])
def test_reserve_of_other_limits_is_share(written, percent):
    made = read(EMBEDDING_RESERVE_FOR_APPLICATIONS=written)
    assert made.document.quota.reserved_percent == percent


def test_limits_of_money_and_months_and_mode_are_read():
    quota = read(
        EMBEDDING_DAILY_COST="12.50",
        EMBEDDING_MONTHLY_REQUESTS="7",
        EMBEDDING_MONTHLY_TOKENS="0",
        EMBEDDING_MONTHLY_COST="1000000",
        EMBEDDING_QUOTA_MODE="Observe",
    ).document.quota
    assert (quota.daily_cost, quota.monthly_cost) == (12_500_000_000, 10**15)
    assert (quota.monthly_requests, quota.monthly_tokens, quota.observes) == (7, 0, True)
    assert read().document.quota.observes is False


def test_price_is_written_one_or_list_price_where_money_is_limited():
    backup = {"EMBEDDING_BACKUP_PROVIDER": "voyage"}
    assert prices_of(read(**backup)) == [None, None]
    limited = {**backup, "EMBEDDING_MONTHLY_COST": "1"}
    assert prices_of(read(**limited)) == ["0.02", "0.02"]
    own = {"EMBEDDING_PRICE_PER_MILLION_TOKENS": "0", "VOYAGE_MODEL": "voyage-4"}
    assert prices_of(read(**limited, **own)) == ["0", "0.06"]


def prices_of(made):
    return [it.price_per_million_tokens for it in made.document.providers]


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("EMBEDDING_MODEL", "EMBEDDING_PRICE_PER_MILLION_TOKENS"),
        ("VOYAGE_MODEL", "EMBEDDING_BACKUP_PRICE_PER_MILLION_TOKENS"),
    ],
)
def test_limit_in_money_without_known_price_stops_start(model, variable):
    own = {model: "model-of-nobody", "EMBEDDING_BACKUP_PROVIDER": "voyage"}
    assert read(**own)
    with pytest.raises(variables.InvalidSetting, match=f"^{variable}: .*model-of-nobody"):
        read(**own, EMBEDDING_DAILY_COST="1")


@pytest.mark.parametrize(
    ("address", "variable"),
    [
        ("OPENAI_BASE_URL", "EMBEDDING_PRICE_PER_MILLION_TOKENS"),
        ("VOYAGE_BASE_URL", "EMBEDDING_BACKUP_PRICE_PER_MILLION_TOKENS"),
    ],
)
def test_list_price_counts_at_vendor_s_own_address_only(address, variable):
    own = {address: "https://gateway/v1", "EMBEDDING_BACKUP_PROVIDER": "voyage"}
    with pytest.raises(variables.InvalidSetting, match=f"^{variable}: "):
        read(**own, EMBEDDING_DAILY_COST="1")
    assert "5" in prices_of(read(**own, EMBEDDING_DAILY_COST="1", **{variable: "5"}))


def test_environment_is_document_like_any_other():
    policy = read(EMBEDDING_BACKUP_PROVIDER="voyage", REDIS_URL="redis://:pw@h").document
    assert document.parse(document.dump(policy)) == policy


def test_backup_that_is_named_and_enabled_is_consent_to_cross_spaces():
    policy = read(EMBEDDING_BACKUP_PROVIDER="voyage", EMBEDDING_FALLBACK_ENABLED="true").document
    assert [provider.kind for provider in policy.providers] == ["OpenAI", "Voyage"]
    assert policy.providers[1].model == "voyage-3-lite"
    assert policy.failover == document.Failover(enabled=True, across_spaces=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8484/v1",
        "http://localhost:8484/v1",
        "http://[::1]:8484/v1/",
        "http://0.0.0.0:8484/v1",
        "http://LOCALHOST:8484",
    ],
)
def test_injected_address_is_not_providers(url):
    policy = read(OPENAI_BASE_URL=url).document
    assert policy.providers[0].base_url == "https://api.openai.com/v1"
    assert policy.passthrough.base_url == "https://api.openai.com/v1"


def test_another_port_of_this_machine_is_providers():
    policy = read(OPENAI_BASE_URL="http://127.0.0.1:8484/v1", EMBEDDING_PORT="8486").document
    assert policy.providers[0].base_url == "http://127.0.0.1:8484/v1"


def test_default_port_counts_as_written():
    policy = read(OPENAI_BASE_URL="http://localhost/v1", EMBEDDING_PORT="80").document
    assert policy.providers[0].base_url == "https://api.openai.com/v1"


def test_pass_through_follows_provider_unless_it_is_told_otherwise():
    url = "https://proxy.example/v1"
    assert read(OPENAI_BASE_URL=url).document.passthrough.base_url == url
    told = read(OPENAI_BASE_URL=url, EMBEDDING_PASSTHROUGH_BASE_URL="https://other.example/v1")
    assert told.document.passthrough.base_url == "https://other.example/v1"
    off = read(EMBEDDING_PASSTHROUGH_BASE_URL="off")
    assert off.document.passthrough.base_url is None


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis:6379/0",
        "rediss://:pw@redis/0?ssl_ca_certs=/ca.pem",
        "unix:///run/redis.sock",
        "redis+cluster://:pw@one:6379,two:6379",
        "rediss+sentinel://one:26379,[fd00::1]:26379/embeddings/0",
    ],
)
def test_redis_is_for_cache_and_quota_alike(url):
    found = read(REDIS_URL=url)
    assert found.document.cache.redis_url_file == found.document.quota.redis_url_file
    assert found.secrets[found.document.cache.redis_url_file] == url


def test_empty_value_is_missing_one():
    found = read(EMBEDDING_MODEL="", EMBEDDING_DAILY_QUOTA="", REDIS_URL="", EMBEDDING_API_TOKEN="")
    assert found.document == read().document
    assert names.SECRET_API_TOKEN not in found.secrets


def test_zero_is_value():
    policy = read(EMBEDDING_DAILY_QUOTA="0", EMBEDDING_CACHE_TTL_SECONDS="0").document
    assert policy.quota.daily_requests == 0
    assert policy.cache.ttl_seconds == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_API_KEY", ""),
        ("OPENAI_API_KEY", names.PLACEHOLDER_KEY),
        ("OPENAI_API_KEY", "sk-1\n"),
        ("OPENAI_BASE_URL", "api.openai.com"),
        ("OPENAI_BASE_URL", "https://api.openai.com:99999/v1"),
        ("OPENAI_BASE_URL", "http://[::1/v1"),
        ("OPENAI_BASE_URL", "https://user:secretpw@api.openai.com/v1"),
        ("OPENAI_BASE_URL", "https://api.openai.com/v1?key=secretpw"),
        ("OPENAI_BASE_URL", "https://api.openai.com/v1#top"),
        ("OPENAI_BASE_URL", "https://api.öpenai.com/v1"),
        ("OPENAI_BASE_URL", "https://api.openai.com/v1\nx"),
        ("VOYAGE_BASE_URL", "voyage"),
        ("VOYAGE_BASE_URL", "http://127.0.0.1:8484/v1"),
        ("EMBEDDING_MODEL", "模型"),
        ("EMBEDDING_MODEL", "a\nx-other: header"),
        ("EMBEDDING_MODEL", "a" * 129),
        ("VOYAGE_MODEL", "voyage 3"),
        ("EMBEDDING_API_TOKEN", " "),
        ("EMBEDDING_API_TOKEN", "tokén-secretpw"),
        ("EMBEDDING_API_TOKEN", "token-\udcff-secretpw"),
        ("EMBEDDING_BACKUP_PROVIDER", "cohere"),
        ("EMBEDDING_FALLBACK_ENABLED", "perhaps"),
        ("EMBEDDING_DAILY_QUOTA", "-1"),
        ("EMBEDDING_DAILY_QUOTA", "1e3"),
        ("EMBEDDING_DAILY_QUOTA", str(10**12 + 1)),
        ("EMBEDDING_DAILY_QUOTA", "9" * 5000),
        *(("EMBEDDING_RESERVE_FOR_APPLICATIONS", it) for it in ("-1", "101%", "0.2", "%", "1e3")),
        ("EMBEDDING_RESERVE_FOR_APPLICATIONS", str(10**12 + 1)),
        *(
            (name, it)
            for name in ("EMBEDDING_DAILY_COST", "EMBEDDING_MONTHLY_COST")
            for it in ("-1", "1e3", "nan", "$5", "1,50", "0.0000001", "1000000.01", "9" * 5000)
        ),
        ("EMBEDDING_MONTHLY_REQUESTS", "-1"),
        ("EMBEDDING_MONTHLY_TOKENS", str(10**12 + 1)),
        ("EMBEDDING_QUOTA_MODE", "observe"),
        *(("EMBEDDING_PRICE_PER_MILLION_TOKENS", it) for it in ("-1", "nan", "1e3", "9" * 5000)),
        ("EMBEDDING_BACKUP_PRICE_PER_MILLION_TOKENS", "free"),
        ("EMBEDDING_CACHE_TTL_SECONDS", "week"),
        ("EMBEDDING_PORT", "0"),
        ("EMBEDDING_PORT", "65536"),
        ("EMBEDDING_PORT", "9" * 5000),
        ("EMBEDDING_ADMIN_PORT", "8484"),
        ("EMBEDDING_PASSTHROUGH_BASE_URL", "none"),
        ("EMBEDDING_PASSTHROUGH_BASE_URL", "http://localhost:8484/v1"),
        ("REDIS_URL", "http://:secretpw@redis"),
        ("REDIS_URL", "redis://:secretpw@redis:99999"),
        ("REDIS_URL", "redis+raft://:secretpw@redis:99999"),
    ],
)
def test_wrong_value_stops_start_with_its_name(name, value):
    with pytest.raises(variables.InvalidSetting, match=f"^{name}: ") as refused:
        read(**{"EMBEDDING_BACKUP_PROVIDER": "voyage", name: value})
    assert "secretpw" not in str(refused.value)


def test_secrets_are_not_shown():
    found = read(REDIS_URL="redis://:secretpw@redis", EMBEDDING_API_TOKEN="token-1")
    assert "secretpw" not in repr(found)
    assert "sk-1" not in repr(found)
    assert "token-1" not in repr(found)


def test_time_for_providers_is_set_in_seconds():
    assert settings.timing({}) == service.Timing()
    told = {"EMBEDDING_ATTEMPT_SECONDS": "0.5", "EMBEDDING_REQUEST_SECONDS": "5"}
    assert settings.timing(told) == service.Timing(attempt_seconds=0.5, request_seconds=5)


@pytest.mark.parametrize("value", ["0", "601", "-1", "1e1", "nan", "soon"])
def test_time_that_is_none_or_too_long_is_refused(value):
    with pytest.raises(variables.InvalidSetting, match=r"^EMBEDDING_REQUEST_SECONDS: "):
        settings.timing({"EMBEDDING_REQUEST_SECONDS": value})


def test_memory_is_set_in_bytes():
    assert settings.memory_bytes({}) is None
    assert settings.memory_bytes({"EMBEDDING_MEMORY_BYTES": "402653184"}) == 384 * 2**20


@pytest.mark.parametrize("value", ["0", "384", "384Mi", "-1", "1e9", "9" * 5000])
def test_memory_that_is_no_number_of_bytes_or_too_little_is_refused(value):
    with pytest.raises(variables.InvalidSetting, match=r"^EMBEDDING_MEMORY_BYTES: "):
        settings.memory_bytes({"EMBEDDING_MEMORY_BYTES": value})
