"""A policy as the document that its sidecars obey."""

from embedding_contract import document, names
from embedding_operator import policy
from embedding_operator.policy import EmbeddingPolicy


def policy_document(wanted: EmbeddingPolicy) -> document.PolicyDocument:
    """The document; it names files of the owned Secret and holds no secret."""
    return document.PolicyDocument(
        namespace=wanted.namespace,
        name=wanted.name,
        providers=tuple(_provider(provider) for provider in wanted.providers),
        failover=document.Failover(
            enabled=wanted.failover.enabled, across_spaces=wanted.failover.across_spaces
        ),
        quota=document.Quota(
            daily_requests=wanted.quota.daily_requests,
            daily_tokens=wanted.quota.daily_tokens,
            deny_on_store_loss=wanted.quota.deny_on_store_loss,
            redis_url_file=_quota_file(wanted),
        ),
        cache=document.Cache(
            ttl_seconds=wanted.cache.ttl_seconds,
            memory_max_bytes=wanted.cache.memory_max_bytes,
            redis_url_file=names.SECRET_CACHE_REDIS_URL if wanted.cache.redis else None,
            shared=wanted.cache.shared,
        ),
        passthrough=document.PassThrough(base_url=wanted.passthrough_url),
        log_level=wanted.sidecar.log_level,
    )


def _provider(provider: policy.Provider) -> document.Provider:
    return document.Provider(
        name=provider.name,
        kind=provider.kind,
        model=provider.model,
        base_url=provider.base_url,
        aliases=provider.aliases,
        dimensions=provider.dimensions,
        declared_space=provider.declared_space,
        api_key_file=names.secret_provider_key(provider.name) if provider.api_key else None,
        price_per_million_tokens=provider.price_per_million_tokens,
    )


def _quota_file(wanted: EmbeddingPolicy) -> str | None:
    if wanted.quota.redis is not None:
        return names.SECRET_QUOTA_REDIS_URL
    return names.SECRET_CACHE_REDIS_URL if wanted.cache.redis is not None else None
