"""The command line, and the composition of the operator.

embedding-operator run                          reconcile, in a cluster or by a kubeconfig
embedding-operator render FILE [--document|--rules] [--namespace NS]   print a policy's objects
embedding-operator secrets migrate|verify ...   from a file, an environment or a Secret into Vault
embedding-operator alerts verify [--expect N]   check that the rule groups of policies are loaded
embedding-operator test-sidecar --model NAME    in a pod: ask its sidecar, as `helm test` does
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import kopf

from embedding_contract import names
from embedding_operator import errors, indexes, informers, metrics, settings, sidecars, vault
from embedding_operator.cli import alerts_verify, preview, sidecar_test
from embedding_operator.controller import (
    class_credentials,
    definitions,
    resync,
    rollouts,
    secret_values,
)
from embedding_operator.controller.class_reconciler import ClassReconciler
from embedding_operator.controller.reconciler import Reconciler
from embedding_operator.controller.redis_users import RedisUsers
from embedding_operator.injection import (
    admission_server,
    injector,
    skipped_pods,
    webhook,
    webhook_ca,
)
from embedding_operator.kube import client, events, kubeconfig
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.migration import command
from embedding_operator.monitoring import monitor, prometheuses
from embedding_operator.queues import workqueue
from embedding_operator.serving import health, kopf_setup, listener, shutdown

_LOG = logging.getLogger("embedding_operator")
USAGE_EXIT = 2
FOREIGN_EXIT = 3
SYNC_POLL_SECONDS = 0.05


def main() -> int:
    """Run the command line; the exit code."""
    parser = argparse.ArgumentParser(prog="embedding-operator", description="EmbeddingPolicy")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run_command = commands.add_parser("run", help="reconcile policies until stopped")
    run_command.set_defaults(run=lambda _: _run())
    preview.add_to(commands)
    command.add_to(commands)
    alerts_verify.add_to(commands)
    sidecar_test.add_to(commands)
    options = parser.parse_args()
    code: int = options.run(options)
    return code


def _run() -> int:
    try:
        chosen = settings.read(os.environ)
        api = kubeconfig.connect()
    except (settings.InvalidSetting, errors.Denied) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return USAGE_EXIT
    _configure_logging(chosen.log_level)
    measured = metrics.Metrics()
    stopping = threading.Event()
    if not _watch_definitions(chosen, api, measured, stopping):
        return FOREIGN_EXIT
    # One namespace may use all workers but one.
    queue: workqueue.WorkQueue[ObjectKey] = workqueue.WorkQueue(
        most_of_one=max(1, chosen.workers - 1)
    )
    index_queue: workqueue.WorkQueue[ObjectKey] = workqueue.WorkQueue(
        most_of_one=max(1, chosen.workers - 1)
    )
    class_queue: workqueue.WorkQueue[ObjectKey] = workqueue.WorkQueue()
    queues = (queue, index_queue, class_queue)
    measured.watch_oldest(lambda: max(it.oldest_seconds() for it in queues))
    seen = informers.Caches(
        api,
        queue=queue,
        index_queue=index_queue,
        class_queue=class_queue,
        namespace=chosen.namespace,
        skipped=measured.skipped,
        watched=chosen.watch_namespaces,
    )
    for kind in seen.kinds:
        measured.watch_up(kind, partial(seen.hears, kind))
    told = events.EventRecorder(objects=api)
    store = _store(chosen, api, measured, queue, class_queue)
    asked = sidecars.Prober(
        asks=sidecars.Client(),
        nudge=api.nudge,
        changed=_told(queue, index_queue),
        asked=measured.sidecar_asked,
        period_seconds=chosen.resync_seconds,
    )
    asked.start()
    selecting = prometheuses.Prometheuses(
        # Without a right on the cluster they cannot be listed.
        find=tuple if chosen.watch_namespaces else api.prometheuses,
        labels_of=api.namespace_labels,
    )
    monitoring = monitor.Monitor(
        chosen.monitoring,
        changed=queue.add,
        selecting=selecting,
        observe=measured.monitoring_asked,
    )
    monitoring.start()
    users = RedisUsers()
    reconciler = Reconciler(
        objects=api,
        seen=seen,
        store=store,
        asked=asked,
        events=told,
        sidecar=_sidecar(chosen),
        poll_seconds=chosen.vault.poll_seconds if chosen.vault else chosen.resync_seconds,
        deadline_seconds=chosen.reconcile_deadline_seconds,
        namespace=chosen.namespace,
        drifted=measured.drifted,
        restarts=rollouts.Rollouts(
            objects=api,
            seen=seen,
            events=told,
            namespaces=chosen.rollout_namespaces,
            restarted=measured.restarted,
        ),
        guard=chosen.providers,
        monitoring=monitoring,
        additional_alerts=chosen.additional_alerts,
        network=chosen.network,
        users=users,
        selected_by=selecting.agreed_labels,
        index_namespaces=chosen.vectors.namespaces,
        covers=measured.uncovered,
        retires=measured.retires,
    )
    index_reconciler = indexes.IndexReconciler(
        objects=api,
        seen=seen,
        asked=asked,
        events=told,
        vectors=chosen.vectors,
        deadline_seconds=chosen.reconcile_deadline_seconds,
        drifted=measured.drifted,
        guard=chosen.providers,
    )
    class_reconciler = ClassReconciler(
        objects=api,
        seen=seen,
        credentials=class_credentials.ClassCredentials(
            values=secret_values.SecretValues(objects=api, store=store), namespace=chosen.namespace
        ),
        deadline_seconds=chosen.reconcile_deadline_seconds,
        users=users,
    )
    seen.start(stopping)
    for keys, waiting, do in (
        (seen.policies.keys, queue, reconciler),
        (seen.indexes.keys, index_queue, index_reconciler),
        (seen.classes.keys, class_queue, class_reconciler),
    ):
        counted = _measured(do, measured, queues)
        _start(_reconcile, waiting, counted, chosen, keys=keys, seen=seen, stopping=stopping)
    registry = kopf_setup.registry()
    behaviour = kopf_setup.settings(sees_definitions=not chosen.watch_namespaces)
    listening = threading.Event()
    live: tuple[health.Check, ...] = (
        lambda: (kind := seen.deaf()) and f"nothing watches {kind}",
        lambda: None if asked.is_running() else "the thread that asks sidecars has ended",
    )
    _listen(chosen, measured, queues, live=live, listening=listening)
    skipped = skipped_pods.SkippedPods(events=told)
    skipped.start()
    hook = webhook.Webhook(seen=seen, sidecar=_sidecar(chosen), tells=skipped, counts=measured)
    webhook.register(registry, hook)
    webhook.serve(
        behaviour,
        port=chosen.webhook.port,
        files=_files(chosen.webhook, chosen.namespace, api, stopping),
        is_ready=lambda: seen.synced,
        listens=listening.set,
    )
    try:
        asyncio.run(_serve(registry, behaviour))
    finally:
        stopping.set()
        seen.close()
        for waiting in queues:
            waiting.close()
        asked.close()
        if store is not None:
            store.close()
    return 0


def _watch_definitions(
    chosen: settings.Settings,
    api: client.KubeClient,
    measured: metrics.Metrics,
    stopping: threading.Event,
) -> bool:
    """Look at the definitions now and each minute; False if they are another installation's.

    An operator of some namespaces has no right to read them, and others may be beside it.
    """
    if chosen.watch_namespaces:
        return True
    found = definitions.Definitions(
        objects=api, own=chosen.installation, lacks=measured.definition_lacks
    )
    ours = found.are_ours()
    if ours:
        _start(found.run, stopping, partial(os.kill, os.getpid(), signal.SIGTERM))
    return ours


async def _serve(registry: kopf.OperatorRegistry, behaviour: kopf.OperatorSettings) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def end() -> None:
        shutdown.end_in_time()
        stop.set()

    async def take_signals(**_: object) -> None:
        # Instead of kopf's own, which wait for hanging threads.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)

    kopf.on.startup(registry=registry)(take_signals)
    await kopf.operator(
        registry=registry, settings=behaviour, standalone=True, clusterwide=True, stop_flag=stop
    )


def _listen(
    chosen: settings.Settings,
    measured: metrics.Metrics,
    queues: Sequence[workqueue.WorkQueue[ObjectKey]],
    *,
    live: tuple[health.Check, ...],
    listening: threading.Event,
) -> None:
    """Serve metrics and probes."""
    seconds = chosen.reconcile_deadline_seconds
    pages = health.pages(
        live=(*live, *(partial(health.work_ends, it, deadline_seconds=seconds) for it in queues)),
        ready=(
            *(partial(health.work_is_in_time, it, deadline_seconds=seconds) for it in queues),
            lambda: None if listening.is_set() else "the webhook does not listen yet",
        ),
    )
    listener.Listener(
        port=chosen.metrics_port, pages={names.PATH_METRICS: measured.page}, name="metrics"
    ).start()
    listener.Listener(port=chosen.health_port, pages=pages, name="health").start()


def _reconcile(
    queue: workqueue.WorkQueue[ObjectKey],
    do: Callable[[ObjectKey], float | None],
    chosen: settings.Settings,
    *,
    keys: Callable[[], Sequence[ObjectKey]],
    seen: informers.Caches,
    stopping: threading.Event,
) -> None:
    """Reconcile and resync, once every informer is synced."""
    while not seen.synced:
        if stopping.wait(SYNC_POLL_SECONDS):
            return
    workqueue.work(queue, do, workers=chosen.workers)
    resync.run(queue, keys, chosen.resync_seconds, stopping)


def _start(do: Callable[..., None], *arguments: object, **named: object) -> None:
    threading.Thread(target=do, args=arguments, kwargs=named, daemon=True).start()


def _files(
    chosen: settings.Webhook, namespace: str, api: client.KubeClient, stopping: threading.Event
) -> admission_server.Files:
    """The webhook's certificate files: our own, which a thread renews, or mounted ones."""
    if chosen.certificates != "own":
        return admission_server.Files(
            certificate=chosen.certificate_directory / "tls.crt",
            key=chosen.certificate_directory / "tls.key",
            client_ca=chosen.client_ca,
        )
    place = webhook_ca.Place(
        namespace=namespace,
        secret=chosen.secret,
        service=chosen.service,
        configuration=chosen.configuration,
        directory=chosen.certificate_directory,
    )
    kept = webhook_ca.WebhookCA(objects=api, place=place)
    _start(kept.run, stopping)
    return admission_server.Files(
        certificate=place.file, key=place.file, client_ca=chosen.client_ca
    )


def _measured(
    do: Callable[[ObjectKey], float | None],
    measured: metrics.Metrics,
    queues: Sequence[workqueue.WorkQueue[ObjectKey]],
) -> Callable[[ObjectKey], float | None]:
    def run(key: ObjectKey) -> float | None:
        started = time.monotonic()
        result = "failed"
        try:
            again = do(key)
            result = "ok"
        finally:
            measured.reconciled(result=result, seconds=time.monotonic() - started)
            measured.queued(sum(map(len, queues)))
        return again

    return run


def _told(
    queue: workqueue.WorkQueue[ObjectKey], index_queue: workqueue.WorkQueue[ObjectKey]
) -> Callable[[ObjectKey, float], None]:
    """Queue the policy or the index whose pods have news."""

    def tell(party: ObjectKey, after_seconds: float) -> None:
        index = sidecars.index_of(party)
        if index is None:
            queue.add(party, after_seconds=after_seconds)
        else:
            index_queue.add(index, after_seconds=after_seconds)

    return tell


def _store(
    chosen: settings.Settings,
    api: client.KubeClient,
    measured: metrics.Metrics,
    queue: workqueue.WorkQueue[ObjectKey],
    class_queue: workqueue.WorkQueue[ObjectKey],
) -> vault.Poller | None:
    """The poller of Vault, which queues policies and classes with news; None without a Vault."""
    if chosen.vault is None:
        return None

    def changed(key: ObjectKey) -> None:
        (queue if key.namespace else class_queue).add(key)

    made = vault.connect(
        settings=chosen.vault,
        rules=chosen.rules,
        tokens=api,
        changed=changed,
        observe=measured.vault_asked,
    )
    made.start()
    return made


def _sidecar(chosen: settings.Settings) -> injector.Sidecar:
    return injector.Sidecar(
        image=chosen.sidecar_image,
        pull_policy=chosen.sidecar_image_pull_policy,
        resources=chosen.sidecar_resources,
        otel_endpoint=chosen.sidecar_otel_endpoint,
        pull_secrets=chosen.pull_secrets,
    )


def _configure_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # They log a line for every event and probe, and at level debug they quote bodies.
    for name in ("kopf", "aiohttp", "urllib3", "kubernetes", "hvac", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
