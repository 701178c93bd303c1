"""Keys of a ClusterEmbeddingProvider in its Redis: each policy's ceilings, and the window of all.

Names of Kubernetes have neither colon nor brace, so no policy's own keys are among them, and no key
of one policy begins as another's.
"""

from typing import Final

QUOTA_PREFIX: Final = "aos:embedding:quota:"
RATE_PREFIX: Final = "aos:embedding:rate:"
_OF_CLASS: Final = "class:"


def scope(class_name: str, namespace: str, policy: str) -> str:
    """The scope by which the ceilings of one policy are counted, as a policy's own quota is."""
    return f"{_OF_CLASS}{class_name}:{namespace}/{policy}"


def window(class_name: str) -> str:
    """The key of the window in which the rate of all policies is counted."""
    return f"{RATE_PREFIX}{{{_OF_CLASS}{class_name}}}"


def is_window(key: str) -> bool:
    """True for the key of a class's window."""
    return key.startswith(f"{RATE_PREFIX}{{{_OF_CLASS}")


def patterns(class_name: str, namespace: str, policy: str) -> tuple[str, ...]:
    """The keys, as patterns, that the sidecars of one policy use."""
    ceilings = f"{QUOTA_PREFIX}{{{scope(class_name, namespace, policy)}}}"
    return ceilings, f"{ceilings}:*", window(class_name)
