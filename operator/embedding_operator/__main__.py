"""The command line, and the one place where the operator is put together.

embedding-operator run                                   in a cluster, or against a kubeconfig
embedding-operator render FILE [--document|--rules] [--namespace NS]   what a policy would become
embedding-operator secrets migrate|verify ...            from a file, an environment or a Secret
                                                         into Vault
embedding-operator alerts verify [--expect N]            are the rule groups of policies loaded
"""

import argparse
import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import kopf

from embedding_operator import (
    cluster,
    errors,
    events,
    handlers,
    injector,
    metrics,
    preview,
    reconcile,
    resync,
    rollouts,
    settings,
    sidecars,
    trust,
    vault,
    verify,
    webhook,
    workqueue,
)
from embedding_operator.migration import command
from embedding_operator.monitoring import monitor, prometheuses

_LOG = logging.getLogger("embedding_operator")
USAGE_EXIT = 2
CERTIFICATE_POLL_SECONDS = 0.1


def main() -> int:
    """Run the command line; the exit code."""
    parser = argparse.ArgumentParser(prog="embedding-operator", description="EmbeddingPolicy")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run_command = commands.add_parser("run", help="reconcile policies until told to stop")
    run_command.set_defaults(run=lambda _: _run())
    preview.add_to(commands)
    command.add_to(commands)
    verify.add_to(commands)
    options = parser.parse_args()
    code: int = options.run(options)
    return code


def _run() -> int:
    try:
        chosen = settings.read(os.environ)
        api = cluster.connect()
    except (settings.InvalidSetting, errors.Denied) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return USAGE_EXIT
    _configure_logging(chosen.log_level)
    measured = metrics.Metrics()
    measured.serve(chosen.metrics_port)
    queue: workqueue.WorkQueue[workqueue.Key] = workqueue.WorkQueue()
    told = events.Events(creates=api)
    store = _store(chosen, api, measured, queue)
    selecting = prometheuses.Prometheuses(find=api.prometheuses, labels_of=api.namespace_labels)
    monitoring = monitor.Monitor(
        chosen.monitoring,
        changed=queue.add,
        selecting=selecting,
        observe=measured.monitoring_asked,
    )
    monitoring.start()
    reconciler = reconcile.Reconciler(
        objects=api,
        store=store,
        asks=sidecars.Sidecars(),
        events=told,
        sidecar=_sidecar(chosen),
        poll_seconds=chosen.vault.poll_seconds if chosen.vault else chosen.resync_seconds,
        drifted=measured.drifted,
        restarts=rollouts.Rollouts(
            objects=api,
            events=told,
            namespaces=chosen.rollout_namespaces,
            restarted=measured.restarted,
        ),
        monitoring=monitoring,
        additional_alerts=chosen.additional_alerts,
        selected_by=selecting.agreed_labels,
        covers=lambda key, pods: measured.uncovered(key.namespace, key.name, pods),
    )
    workqueue.work(queue, _measured(reconciler, measured, queue), workers=chosen.workers)
    stopping = threading.Event()
    threading.Thread(
        target=resync.run, args=(queue, api, chosen.resync_seconds, stopping), daemon=True
    ).start()
    watched, behaviour = handlers.registry(queue, wrote=api), handlers.settings()
    if chosen.webhook is not None:
        hook = webhook.Webhook(reads=api, sidecar=_sidecar(chosen), records=told, counts=measured)
        webhook.register(watched, hook)
        certificate, key = _certificate(chosen.webhook, chosen.namespace, api, stopping)
        webhook.serve(behaviour, port=chosen.webhook.port, certificate=certificate, key=key)
    try:
        asyncio.run(_watch(watched, behaviour, health_port=chosen.health_port))
    finally:
        stopping.set()
        queue.close()
        if store is not None:
            store.close()
    return 0


async def _watch(
    registry: kopf.OperatorRegistry, behaviour: kopf.OperatorSettings, *, health_port: int
) -> None:
    await kopf.operator(
        registry=registry,
        settings=behaviour,
        standalone=True,
        clusterwide=True,
        liveness_endpoint=f"http://0.0.0.0:{health_port}/healthz",
    )


def _certificate(
    chosen: settings.Webhook, namespace: str, api: cluster.Cluster, stopping: threading.Event
) -> tuple[Path, Path]:
    """The files that the webhook serves with: our own, kept from here on, or mounted ones."""
    if chosen.certificates != "own":
        return chosen.certificate_directory / "tls.crt", chosen.certificate_directory / "tls.key"
    place = trust.Place(
        namespace=namespace,
        secret=chosen.secret,
        service=chosen.service,
        configuration=chosen.configuration,
        directory=chosen.certificate_directory,
    )
    kept = trust.Trust(objects=api, place=place)
    threading.Thread(target=kept.run, args=(stopping,), daemon=True).start()
    return place.file, place.file


def _measured(
    do: Callable[[workqueue.Key], float | None],
    measured: metrics.Metrics,
    queue: workqueue.WorkQueue[workqueue.Key],
) -> Callable[[workqueue.Key], float | None]:
    def run(key: workqueue.Key) -> float | None:
        started = time.monotonic()
        result = "failed"
        try:
            again = do(key)
            result = "ok"
        finally:
            measured.reconciled(result=result, seconds=time.monotonic() - started)
            measured.queued(len(queue))
        return again

    return run


def _store(
    chosen: settings.Settings,
    api: cluster.Cluster,
    measured: metrics.Metrics,
    queue: workqueue.WorkQueue[workqueue.Key],
) -> vault.Poller | None:
    """What is known of Vault; a policy for which there is news is reconciled."""
    if chosen.vault is None:
        return None
    made = vault.connect(
        settings=chosen.vault,
        rules=chosen.rules,
        tokens=api,
        changed=lambda policy: queue.add(workqueue.Key(*policy)),
        observe=measured.vault_asked,
    )
    made.start()
    return made


def _sidecar(chosen: settings.Settings) -> injector.Sidecar:
    return injector.Sidecar(
        image=chosen.sidecar_image,
        pull_policy=chosen.sidecar_image_pull_policy,
        resources=chosen.sidecar_resources,
    )


def _configure_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # A line for every event and probe; and at their debug level they quote bodies.
    for name in ("kopf", "aiohttp", "urllib3", "kubernetes", "hvac", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
