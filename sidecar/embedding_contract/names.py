"""Names, ports and paths that the operator writes and the sidecar, or a user, reads."""

from typing import Final

GROUP: Final = "embedding.agenticverz.io"
VERSION: Final = "v1alpha1"
KIND: Final = "EmbeddingPolicy"
PLURAL: Final = "embeddingpolicies"
INDEX_KIND: Final = "EmbeddingIndex"
INDEX_PLURAL: Final = "embeddingindexes"
CLASS_KIND: Final = "ClusterEmbeddingProvider"
CLASS_PLURAL: Final = "clusterembeddingproviders"
INJECTION_KIND: Final = "EmbeddingInjection"
INJECTION_PLURAL: Final = "embeddinginjections"
INJECTION_NAME: Final = "injection"
"""The name of the one EmbeddingInjection of a namespace."""
API_VERSION: Final = f"{GROUP}/{VERSION}"
FIELD_MANAGER: Final = "embedding-operator"
LEASE: Final = "embedding-operator"
"""The Lease in the operator's namespace by which one replica reconciles."""

# 8484 answers the application on loopback; 8485 answers kubelet, Prometheus and the operator.
API_PORT: Final = 8484
ADMIN_PORT: Final = 8485
ADMIN_PORT_NAME: Final = "embed-admin"
# 8486 answers sidecars, kubelet, Prometheus and the operator in pods of an index.
VECTORS_PORT: Final = 8486
VECTORS_PORT_NAME: Final = "embed-vectors"

# Labels and annotations.
LABEL_INJECTION: Final = f"{GROUP}/injection"
"""On a namespace: `enabled` lets policies inject there. On a pod: `disabled` opts it out."""
LABEL_POLICY: Final = f"{GROUP}/policy"
"""On a pod: the policy it asks for by name. On an owned object: the policy that owns it."""
LABEL_INJECTED: Final = f"{GROUP}/injected"
"""On a pod: the name of the policy whose sidecar it carries, set with the sidecar."""
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "embedding-operator"
ANNOTATION_SIDECAR_HASH: Final = f"{GROUP}/sidecar-hash"
"""On a pod: the hash of the inputs its sidecar container was built from."""
ANNOTATION_SIDECAR_SKIPPED: Final = f"{GROUP}/sidecar-skipped"
"""The reason, in CamelCase, for which a pod was created without the sidecar of its policy."""
ANNOTATION_NUDGE: Final = f"{GROUP}/nudge"
"""On a pod: changed through pods/status so that kubelet syncs its volumes at once."""
ANNOTATION_RESTART: Final = f"{GROUP}/restart-on-secret-change"
"""On a workload: `true`, or the names of synced Secrets, whose change restarts it."""
ANNOTATION_SECRETS_SEEN: Final = f"{GROUP}/secrets-seen"
"""On a workload: digests of what its pods hold of Secrets."""
ANNOTATION_SECRETS: Final = f"{GROUP}/secrets"
"""On a pod template: a new value for each restart."""
ANNOTATION_REFRESH: Final = f"{GROUP}/refresh"
"""On a policy: a new value has Vault read at once, for all secrets that the policy names."""
LABEL_USABLE: Final = f"{GROUP}/usable"
"""On a Secret: `true` lets policies of its namespace name it, where the chart asks for that."""
ANNOTATION_TEST_ALERT: Final = f"{GROUP}/test-alert"
"""On a policy: a new value asks for one test alert, at most one in 10 minutes."""
LABEL_INDEX: Final = f"{GROUP}/index"
"""On a pod: the index it works for. Its policy is the one that the label `policy` names, whatever
that one's podSelector says."""
ANNOTATION_DROP_TARGET: Final = f"{GROUP}/drop-target"
"""On an index: ids of retired targets, separated by commas, which the worker drops."""

# The pod.
CONTAINER: Final = "embedding-sidecar"
VOLUME_DOCUMENT: Final = "embedding-policy"
VOLUME_SECRETS: Final = "embedding-secrets"
VOLUME_IDENTITY: Final = "embedding-identity"
DOCUMENT_DIRECTORY: Final = "/etc/embedding/policy"
SECRETS_DIRECTORY: Final = "/etc/embedding/secrets"
DOCUMENT_KEY: Final = "document.json"
DOCUMENT_PATH: Final = f"{DOCUMENT_DIRECTORY}/{DOCUMENT_KEY}"
IDENTITY_DIRECTORY: Final = "/etc/embedding/identity"
AZURE_TOKEN: Final = "azure"  # noqa: S105 - a file's name, no secret
"""The pod's ServiceAccount token for Microsoft Entra ID."""
AZURE_TOKEN_PATH: Final = f"{IDENTITY_DIRECTORY}/{AZURE_TOKEN}"
AZURE_AUDIENCE: Final = "api://AzureADTokenExchange"
"""Source: learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust."""
AZURE_TOKEN_SECONDS: Final = 3600
"""kubelet renews it after four fifths of that. Azure's own webhook has it as its default."""
DOCUMENT_SIGNATURE: Final = "document.sig"
"""Beside the document, where it is signed: `proof.sign_document`."""

# A pod of an index.
VECTORS_CONTAINER: Final = "embedding-vectors"
INDEX_DIRECTORY: Final = "/etc/embedding/index"
INDEX_KEY: Final = "index.json"
DATABASE_DIRECTORY: Final = "/etc/embedding/database"
"""The user's Secret: the DSN, a connection string of libpq, in the file `DSN_FILE`."""
DSN_FILE: Final = "dsn"
DATABASE_CA_FILE: Final = "ca.crt"
"""In the same folder, where the index names one: `sslrootcert` of the connection."""
TOKEN_DIRECTORY: Final = "/etc/embedding/token"  # noqa: S105 - a folder, not a secret
"""The policy's API token alone, in the file `SECRET_API_TOKEN`."""

# Keys of the owned Secret, which are file names below SECRETS_DIRECTORY.
SECRET_API_TOKEN: Final = "api-token"  # noqa: S105 - a key's name, not its value
SECRET_CACHE_REDIS_URL: Final = "cache-redis-url"  # noqa: S105 - likewise
SECRET_QUOTA_REDIS_URL: Final = "quota-redis-url"  # noqa: S105 - likewise
SECRET_CACHE_KEY: Final = "cache-key"  # noqa: S105 - likewise
"""Signs the entries of the cache in Redis: 64 hexadecimal digits, kept when the token rotates."""
SECRET_DOCUMENT_KEY: Final = "document-key"  # noqa: S105 - likewise
"""Signs the document of a policy with a ClusterEmbeddingProvider. With other terms of the provider
comes another key, so that older documents are not obeyed any more."""
CLASS_KEY_PREFIX: Final = "class-key-"
CLASS_REDIS_URL_PREFIX: Final = "class-redis-url-"
CLASS_PREFIXES: Final = (CLASS_KEY_PREFIX, CLASS_REDIS_URL_PREFIX)
"""Keys that begin with one of these came from a ClusterEmbeddingProvider."""

# The sidecar's own environment in a pod.
ENV_POD_UID: Final = "EMBEDDING_POD_UID"
"""The UID of the pod, from the downward API: a request's proof is for one pod."""


def secret_provider_key(provider: str) -> str:
    """The owned Secret's key that holds the API key of the provider of this name."""
    return f"provider-{provider}"


def secret_class_key(name: str) -> str:
    """The owned Secret's key that holds the API key of the ClusterEmbeddingProvider."""
    return f"{CLASS_KEY_PREFIX}{name}"


def secret_class_redis_url(name: str) -> str:
    """The owned Secret's key that holds the URL of the ClusterEmbeddingProvider's Redis."""
    return f"{CLASS_REDIS_URL_PREFIX}{name}"


# Names of the objects a policy owns, in its own namespace.


def document_configmap(policy: str) -> str:
    """The ConfigMap that holds the policy document, mounted into every sidecar."""
    return f"embedding-{policy}-document"


def environment_configmap(policy: str) -> str:
    """The ConfigMap that application containers read by envFrom."""
    return f"embedding-{policy}-environment"


OPERATOR_PREFIX: Final = "embedding-"
"""The names of owned Secrets begin so; those of Secrets in `spec.secrets` may not."""


def owned_secret(policy: str) -> str:
    """The Secret that holds all a sidecar needs: keys, Redis URLs, API token."""
    return f"{OPERATOR_PREFIX}{policy}"


def monitoring(policy: str) -> str:
    """The PrometheusRule and the PodMonitor."""
    return f"embedding-{policy}"


def additional_alerts(policy: str) -> str:
    """The PrometheusRule of the alerts that the policy adds; no policy's own has this name."""
    return f"additional-embedding-{policy}"


def index_objects(index: str) -> str:
    """ConfigMap, CronJob, Deployment and Service of an index."""
    return f"embedding-index-{index}"


# The application's environment, and nothing else of ours in it.
ENV_BASE_URL: Final = "OPENAI_BASE_URL"
ENV_BASE_URL_LEGACY: Final = "OPENAI_API_BASE"
"""LlamaIndex reads only this one."""
ENV_API_KEY: Final = "OPENAI_API_KEY"
PLACEHOLDER_KEY: Final = "embedding-sidecar"
"""The API key that an application's SDK sends; the sidecar ignores it and never forwards it."""

# HTTP paths.
PATH_EMBEDDINGS: Final = "/v1/embeddings"
PATH_MODELS: Final = "/v1/models"
PATH_OPENAPI: Final = "/openapi.json"
PATH_HEALTH: Final = "/api/v1/embedding/health"
PATH_QUOTA: Final = "/api/v1/embedding/quota"
PATH_CONFIG: Final = "/api/v1/embedding/config"
PATH_CACHE: Final = "/api/v1/embedding/cache"
PATH_CACHE_STATS: Final = "/api/v1/embedding/cache/stats"
PATH_SEARCH: Final = "/api/v1/embedding/search"
PATH_INDEX: Final = "/api/v1/embedding/index"
PATH_METRICS: Final = "/metrics"
PATH_STARTED: Final = "/healthz/started"
PATH_LIVE: Final = "/healthz/live"

# Headers of a request that are ours.
HEADER_CLASS: Final = "x-embedding-class"
"""`background` takes only what applications leave of the quota; absent is an application."""
CLASS_BACKGROUND: Final = "background"
