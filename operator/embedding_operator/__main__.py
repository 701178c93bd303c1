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
from collections.abc import Callable
from functools import partial

import kopf

from embedding_contract import names
from embedding_operator import errors, holder, informers, metrics, settings
from embedding_operator.cli import alerts_verify, preview, sidecar_test
from embedding_operator.controller import definitions, injection_reconciler, workers
from embedding_operator.election import holding
from embedding_operator.injection import admission_server, skipped_pods, webhook, webhook_ca
from embedding_operator.kube import client, events, kubeconfig
from embedding_operator.migration import command
from embedding_operator.serving import health, kopf_setup, listener, shutdown

_LOG = logging.getLogger("embedding_operator")
USAGE_EXIT = 2
FOREIGN_EXIT = 3
FAULT_EXIT = 1
_DEAF = "nothing arrives any more by the watch of {}"


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
        # Without the Lease a replica writes by `free` only: the Lease itself, events about pods
        # that its webhook passed over, and what is missing for it to be ready.
        free = kubeconfig.connect()
        held = holding.Holding()
        api = kubeconfig.connect(check=held.check)
        injection_reconciler.check_served(free, is_needed=chosen.injects_by_policy)
    except (settings.InvalidSetting, errors.Denied) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return USAGE_EXIT
    _configure_logging(chosen.log_level)
    measured = metrics.Metrics()
    stopping = threading.Event()
    if not _watch_definitions(chosen, api, measured, stopping):
        return FOREIGN_EXIT
    queues = workers.Queues.made(workers=chosen.workers)
    measured.watch_oldest(lambda: max(it.oldest_seconds() for it in queues))
    seen = informers.Caches(
        api,
        queue=queues.policies,
        index_queue=queues.indexes,
        class_queue=queues.classes,
        injection_queue=queues.injections if chosen.injects_by_policy else None,
        namespace=chosen.namespace,
        skipped=measured.skipped,
        watched=chosen.watch_namespaces,
    )
    for kind in seen.watches.kinds:
        measured.watch_up(kind, partial(seen.watches.hears, kind))
        measured.watch_silence(kind, partial(seen.watches.silent_seconds, kind))
    led = holder.Holder(chosen, api=api, free=free, seen=seen, queues=queues, measured=measured)

    def finish() -> None:
        if led.end(within_seconds=shutdown.WORK_SECONDS):
            held.release()

    ending = shutdown.Ending(finish)
    if chosen.leader_election:
        held.elect(
            objects=free,
            namespace=chosen.namespace,
            gained=led.start,
            lost=lambda reason: ending.begin(code=FAULT_EXIT, reason=reason),
        )
    measured.watch_lease(lambda: held.is_held)
    _start(led.prepare, stopping)
    seen.start(stopping, deaf=lambda kind: ending.begin(code=FAULT_EXIT, reason=_DEAF.format(kind)))
    listening = threading.Event()
    live: tuple[health.Check, ...] = (
        lambda: (kind := seen.watches.deaf()) and f"nothing watches {kind}",
        led.fault,
    )
    ready: tuple[health.Check, ...] = (
        led.waits,
        held.waits,
        lambda: (
            None
            if chosen.webhook is None or listening.is_set()
            else "the webhook does not listen yet"
        ),
        lambda: "the process ends" if ending.has_begun else None,
    )
    _listen(chosen, measured, queues, live=live, ready=ready)
    registry = kopf_setup.registry()
    behaviour = kopf_setup.settings(sees_definitions=not chosen.watch_namespaces)
    if chosen.webhook is not None:
        told = events.EventRecorder(objects=free).start()
        skipped = skipped_pods.SkippedPods(events=told)
        hook = webhook.Webhook(
            seen=seen, sidecar=holder.sidecar(chosen), tells=skipped, counts=measured
        )
        webhook.register(registry, hook)
        webhook.serve(
            behaviour,
            port=chosen.webhook.port,
            files=_files(
                chosen.webhook,
                chosen.namespace,
                api,
                free,
                stopping,
                may_write=lambda: held.is_held,
            ),
            is_ready=lambda: seen.synced,
            listens=listening.set,
            is_ending=lambda: ending.has_begun,
        )
    if chosen.leader_election:
        _start(held.run, stopping)
    else:
        led.start()
    try:
        asyncio.run(_serve(registry, behaviour, ending, has_webhook=chosen.webhook is not None))
    finally:
        stopping.set()
        seen.close()
        led.close()
    return ending.code


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


async def _serve(
    registry: kopf.OperatorRegistry,
    behaviour: kopf.OperatorSettings,
    ending: shutdown.Ending,
    *,
    has_webhook: bool,
) -> None:
    """Serve the webhook, if any, until the process is to end."""
    loop = asyncio.get_running_loop()

    def take_signals() -> None:
        loop.add_signal_handler(signal.SIGTERM, ending.begin)
        loop.add_signal_handler(signal.SIGINT, partial(ending.begin, lingers=False))

    over = asyncio.wrap_future(ending.over)
    if not has_webhook:
        take_signals()
        await over
        return
    before = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=behaviour,
        standalone=True,
        clusterwide=True,
        stop_flag=over,
    )
    # Only now are kopf's own set, which end without the work and wait for hanging threads.
    take_signals()
    await kopf.run_tasks(tasks, ignored=before)


def _listen(
    chosen: settings.Settings,
    measured: metrics.Metrics,
    queues: workers.Queues,
    *,
    live: tuple[health.Check, ...],
    ready: tuple[health.Check, ...],
) -> None:
    """Serve metrics and probes."""
    seconds = chosen.reconcile_deadline_seconds
    pages = health.pages(
        live=(*live, *(partial(health.work_ends, it, deadline_seconds=seconds) for it in queues)),
        ready=(
            *(partial(health.work_is_in_time, it, deadline_seconds=seconds) for it in queues),
            *ready,
        ),
    )
    listener.Listener(
        port=chosen.metrics_port, pages={names.PATH_METRICS: measured.page}, name="metrics"
    ).start()
    listener.Listener(port=chosen.health_port, pages=pages, name="health").start()


def _start(do: Callable[..., None], *arguments: object, **named: object) -> None:
    threading.Thread(target=do, args=arguments, kwargs=named, daemon=True).start()


def _files(
    hook: settings.Webhook,
    namespace: str,
    api: client.KubeClient,
    free: client.KubeClient,
    stopping: threading.Event,
    *,
    may_write: Callable[[], bool],
) -> admission_server.Files:
    """The webhook's certificate files: our own, which a thread renews, or mounted ones."""
    if hook.certificates != "own":
        return admission_server.Files(
            certificate=hook.certificate_directory / "tls.crt",
            key=hook.certificate_directory / "tls.key",
            client_ca=hook.client_ca,
        )
    place = webhook_ca.Place(
        namespace=namespace,
        secret=hook.secret,
        service=hook.service,
        configuration=hook.configuration,
        directory=hook.certificate_directory,
    )
    kept = webhook_ca.WebhookCA(objects=api, free=free, place=place, may_write=may_write)
    _start(kept.run, stopping)
    return admission_server.Files(certificate=place.file, key=place.file, client_ca=hook.client_ca)


def _configure_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # They log a line for every event and probe, and at level debug they quote bodies.
    for name in ("kopf", "aiohttp", "urllib3", "kubernetes", "hvac", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
