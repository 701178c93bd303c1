"""Connect to the API server: the pod's own, or one of a kubeconfig."""

from pathlib import Path
from typing import Final

import kubernetes

from embedding_operator import errors
from embedding_operator.kube import fence
from embedding_operator.kube.client import KubeClient

IN_CLUSTER_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def connect(*, check: fence.Check | None = None) -> KubeClient:
    """The API server of the pod's ServiceAccount, or else of the current kubeconfig.

    `check` is called before each write, as in KubeClient.

    Raises:
        errors.Denied: there is neither.
    """
    try:
        try:
            kubernetes.config.load_incluster_config()  # type: ignore[no-untyped-call] # theirs
        except kubernetes.config.ConfigException:
            kubernetes.config.load_kube_config()  # type: ignore[no-untyped-call] # theirs
    except kubernetes.config.ConfigException as error:
        raise errors.Denied(f"no cluster is configured: {error}") from None
    configuration = kubernetes.client.Configuration.get_default_copy()
    configuration.keep_alive = True  # else the watch of a dead server never ends
    return KubeClient(kubernetes.client.ApiClient(configuration), check=check)


def connect_as_user(kubeconfig: str | None, context: str | None) -> tuple[KubeClient, str]:
    """The API server as kubectl chooses it, and the namespace it works in.

    Raises:
        errors.Denied: there is no kubeconfig and no pod's ServiceAccount, or no such context.
    """
    config = kubernetes.config
    try:
        contexts, active = config.list_kube_config_contexts(  # type: ignore[no-untyped-call] # theirs
            kubeconfig
        )
        chosen = next((it for it in contexts if it["name"] == context), active)
        if context is not None and chosen["name"] != context:
            raise errors.Denied(f"the kubeconfig has no context {context}")
        client = config.new_client_from_config(  # type: ignore[no-untyped-call] # theirs
            kubeconfig, context
        )
    except config.ConfigException as error:
        if kubeconfig is None and context is None and IN_CLUSTER_NAMESPACE.exists():
            return connect(), IN_CLUSTER_NAMESPACE.read_text(encoding="utf-8")
        raise errors.Denied(f"no cluster is configured: {error}") from None
    return KubeClient(client), chosen["context"].get("namespace") or "default"
