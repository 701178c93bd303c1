"""`make demo`: the main job, shown as it happens on a real node; `make demo-down` removes it.

python -m examples.demo up    leaves the cluster up and says what to type next
python -m examples.demo down  removes everything
python -m examples.demo push  builds our images and pushes them to $REGISTRY

With CLUSTER=current it runs on the cluster of the current kube-context, which CONTEXT must name
again, with the images of $REGISTRY (see elsewhere.py).
"""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev import cluster
from dev.cluster import current, images
from examples.demo import elsewhere
from tests.parts import installation, sentences

NAME = "demo"
ROWS = 200
PROVIDERS = ("primary", "backup")
FOLDER = Path(os.environ.get("DEMO_FOLDER") or Path(__file__).parents[2] / ".demo").absolute()
BOLD, DIM, GREEN, RESET = (
    ("\033[1m", "\033[2m", "\033[32m", "\033[0m") if sys.stdout.isatty() else ("", "", "", "")
)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce what is done, and how long it took."""
    print(f"\n{BOLD}▸ {title}{RESET}", flush=True)
    started = time.monotonic()
    yield
    print(f"{DIM}  {time.monotonic() - started:.1f} s{RESET}", flush=True)


def show(text: str) -> None:
    """Print the output of something, set off from the narration."""
    for line in text.rstrip().splitlines():
        print(f"    {line}", flush=True)


def up() -> None:
    """The whole demo."""
    product = cluster_of_yours() if current.chosen() else cluster_of_its_own()
    with step("Redis, OpenBao (Vault's API) and a real embedding model behind two paid doors"):
        product.parts.start()
        product.parts.configure_vault()
        if current.chosen():
            elsewhere.mark_reviewer(product)
    with step("helm upgrade --install embedding-operator charts/embedding-operator"):
        product.install_chart()
        if current.chosen():
            elsewhere.mark(product)
    with step("kubectl apply -f examples/self-hosted/"):
        for name in ("namespace", "policy", "application"):
            product.apply_example(name)
        product.wait_for_policy("Ready")
        product.kubectl("rollout", "status", "deployment/search", "-n", "shop", "--timeout=120s")
        product.wait_for_status(lambda status: status["pods"]["covered"] == 1)
        show(product.kubectl("get", "embpol", "-n", "shop"))
        containers = "-o=custom-columns=POD:.metadata.name,SIDECAR:.spec.initContainers[0].name,APP:.spec.containers[0].name,PHASE:.status.phase"  # noqa: E501 - one argument
        show(product.kubectl("get", "pods", "-n", "shop", containers))
    calls(product)
    rotation(product)
    vectors(product)
    with step("kubectl get embpol: what was seen, not what was sent"):
        product.wait_for_status(lambda status: status.get("quota", {}).get("used", 0) > 0)
        show(product.kubectl("get", "embpol", "-n", "shop"))
    next_steps(product)


def cluster_of_its_own() -> installation.Installation:
    """A node on this machine, with our images."""
    with step("A Kubernetes node of its own on this machine"):
        node = cluster.up(form="node", name=NAME)
        product = installation.Installation(node, FOLDER)
        show(product.kubectl("get", "nodes"))
    with step("Our images, built without a registry and loaded into the node"):
        product.load_images()
    return product


def cluster_of_yours() -> installation.Installation:
    """The cluster of the current context, which pulls our images from the named registry."""
    with step(f"The cluster of the context {os.environ.get('CONTEXT', '')}"):
        product = elsewhere.open_cluster(FOLDER)
        show(product.kubectl("get", "nodes"))
    return product


def push() -> None:
    """Build our images and push them to $REGISTRY, without TLS if $PLAIN_HTTP is set."""
    registry = os.environ.get("REGISTRY", "").rstrip("/")
    if not registry:
        raise elsewhere.RefusedError("REGISTRY is not set: name the registry to push to")
    tag = os.environ.get("TAG") or "dev"
    with step(f"Our images, built and pushed to {registry}"):
        for image in installation.IMAGES:
            archive = images.build(image.name, file=image.dockerfile, context=installation.ROOT)
            name, _, own_tag = image.name.rpartition("/")[2].partition(":")
            ending = own_tag if image is installation.APPLICATION else tag
            images.push(
                archive,
                image.name,
                to=f"{registry}/{name}:{ending}",
                login=os.environ.get("REGISTRY_LOGIN", ""),
                plain_http=bool(os.environ.get("PLAIN_HTTP")),
            )
            show(f"{registry}/{name}:{ending}")


def calls(product: installation.Installation) -> None:
    """A miss, a hit, and an answer while the first provider is gone."""
    with step("The application asks twice with the unmodified openai package: a miss, then a hit"):
        show(product.ask("ask", f"a text nobody embedded before {uuid.uuid4()}"))
    with step("The first provider is stopped; a new text is answered by the backup, same space"):
        product.parts.stop_provider("primary")
        show(product.ask("ask", f"another text {uuid.uuid4()}"))
        product.parts.start_provider("primary")


def rotation(product: installation.Installation) -> None:
    """A new key in Vault, used by the running sidecar, without a restart."""
    with step("The primary's key is rotated in Vault; the running pod uses the new one"):
        key = f"primary-key-{uuid.uuid4().hex[:8]}"
        product.parts.accept_keys("primary", *product.parts.keys("primary"), key)
        product.parts.write_keys(PRIMARY_KEY=key, BACKUP_KEY="backup-key-1")
        written = time.monotonic()
        while not product.parts.calls("primary", key=key):
            product.ask("vector", f"until the new key is seen {uuid.uuid4()}")
        seconds = time.monotonic() - written
        restarts = "-o=jsonpath={.items[0].status.initContainerStatuses[0].restartCount}"
        count = product.kubectl("get", "pods", "-n", "shop", "-l", "app=search", restarts)
        show(f"first call with the new key {seconds:.1f} s after the write; restarts: {count}")
        product.parts.accept_keys("primary", key)


def vectors(product: installation.Installation) -> None:
    """A table becomes searchable, by meaning, and by text while no provider answers."""
    with step("helm upgrade: pods of indexes may run in the namespace shop"):
        product.enable_vectors()
    with step(f"A table of {ROWS} sentences in PostgreSQL, and kubectl apply -f examples/vectors/"):
        product.fill_table(sentences.cut(ROWS))
        product.apply_index()
        product.wait_for_index()
        show(product.kubectl("get", "embidx", "-n", "shop"))
    with step("The application searches by meaning, through its own sidecar"):
        show(product.ask("search", "an elderly lady who is looking for a naughty child"))
    with step("Both providers are stopped: the answer is by text, and says why"):
        for name in PROVIDERS:
            product.parts.stop_provider(name)
        show(product.ask("search", "Aunt Polly"))
        for name in PROVIDERS:
            product.parts.start_provider(name)


def next_steps(product: installation.Installation) -> None:
    """What a curious person types next."""
    binaries = {Path(cluster.artifact(name)).parent for name in ("kubectl", "helm")}
    application = (
        "kubectl exec deploy/search -n shop -c search -- /opt/venv/bin/python /application.py"
    )
    path = ":".join(str(folder) for folder in sorted(binaries))
    print(
        f"""
{GREEN}It works, and it is still up.{RESET} What to type next:

    export KUBECONFIG={product.node.kubeconfig}
    export PATH={path}:$PATH
    kubectl describe embpol search -n shop
    {application} ask "hello"
    {application} search "a quarrel"
    kubectl edit embpol search -n shop
    make demo-down
"""
    )


def down() -> None:
    """Remove the cluster, the parts and their files; of a cluster of yours, what the demo made."""
    with step("Removing the demo"):
        if elsewhere.is_up(FOLDER):
            for left in elsewhere.remove(FOLDER):
                show(f"left in the cluster: {left}")
            installation.remove(FOLDER)
            return
        installation.remove(FOLDER)
        cluster.down(NAME)


def main() -> int:
    """Run `up`, `down` or `push`; the exit code."""
    match sys.argv[1:]:
        case ["up"]:
            command = up
        case ["down"]:
            command = down
        case ["push"]:
            command = push
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    try:
        command()
    except (cluster.Failure, AssertionError, subprocess.SubprocessError) as error:
        print(f"\nThe demo stopped: {error}\nLogs: {FOLDER}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
