"""The two ConfigMaps: the application's environment, and the sidecar's document."""

from embedding_contract import document, names, proof
from embedding_operator.kube.kinds import Object
from embedding_operator.kube.ownership import metadata
from embedding_operator.policy.policy import EmbeddingPolicy


def environment(policy: EmbeddingPolicy) -> Object:
    """The variables for application containers, by envFrom; the same for all providers and keys."""
    url = f"http://127.0.0.1:{names.API_PORT}/v1"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(policy, names.environment_configmap(policy.name)),
        "data": {
            names.ENV_BASE_URL: url,
            names.ENV_BASE_URL_LEGACY: url,
            names.ENV_API_KEY: names.PLACEHOLDER_KEY,
        },
    }


def policy_document(
    policy: EmbeddingPolicy, made: document.PolicyDocument, *, key: str = ""
) -> Object:
    """The document that every sidecar of the policy mounts, signed where there is a key."""
    text = document.dump(made)
    signature = proof.sign_document(key, text.encode()) if key else None
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(policy, names.document_configmap(policy.name)),
        "data": {
            names.DOCUMENT_KEY: text,
            **({} if signature is None else {names.DOCUMENT_SIGNATURE: signature}),
        },
    }
