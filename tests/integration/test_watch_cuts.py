"""A watch that is cut in any way on a real API server: the operator reconciles again."""

import sys
import time

import pytest

from tests.parts import api_proxy, operating, replicas
from tests.parts import vault as real

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

PROMISED_SECONDS = 90
PATIENCE_SECONDS = 3 * PROMISED_SECONDS
BURST_SECONDS = 8
IMPATIENT_SECONDS = 6


def expired(proxy):
    proxy.tell(410, "Expired")


def gone(proxy):
    """410 as the answer to each list and watch, for a while."""
    proxy.refuse(410, "Expired")
    time.sleep(BURST_SECONDS / 4)  # the fault's own length
    proxy.refuse(None)


def silent(proxy):
    proxy.silence()


def forbidden(proxy):
    proxy.refuse(403, "Forbidden")
    time.sleep(BURST_SECONDS)  # the fault's own length
    proxy.refuse(None)


def error(proxy):
    proxy.tell(500, "InternalError")


CUTS = (expired, gone, silent, forbidden, error)


def cut(api_server, namespace, folder, how, *, program):
    """The time from the end of the fault until the operator reconciles."""
    with (
        api_proxy.proxied(api_server.kubeconfig, folder / "proxy") as proxy,
        real.running(folder / "vault") as server,
    ):
        operator = operating.Operator(folder / "operator", api_server.kubeconfig, server)
        operator.leads_through(proxy)
        operator.program = program
        try:
            operator.start()
            edits = replicas.Edits(api_server, namespace)
            edits.seconds_until_reconciled(last=operator.log)
            replicas.until(lambda: proxy.watches >= 8, "watches", last=operator.log)
            edits.seconds_until_reconciled(last=operator.log)
            how(proxy)
            seconds = edits.seconds_until_reconciled(
                last=operator.log, patience_seconds=PATIENCE_SECONDS
            )
            # And by a watch, not by a list that happened to come.
            edits.seconds_until_reconciled(last=operator.log)
            return seconds
        finally:
            operator.stop()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", CUTS, ids=lambda it: it.__name__)
def test_operator_reconciles_again_after_cut(how, api_server, namespace, tmp_path, say):
    impatient = [sys.executable, "-m", "tests.parts.impatient_operator", str(IMPATIENT_SECONDS)]
    seconds = cut(api_server, namespace, tmp_path, how, program=impatient)
    say(f"watch cut ({how.__name__}): reconciles after {seconds:.1f} s")


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", CUTS, ids=lambda it: it.__name__)
def test_operator_as_shipped_reconciles_again_after_cut(how, api_server, namespace, tmp_path, say):
    program = [sys.executable, "-m", "embedding_operator", "run"]
    seconds = cut(api_server, namespace, tmp_path, how, program=program)
    say(f"watch cut ({how.__name__}), as shipped: reconciles after {seconds:.1f} s")


@pytest.mark.timeout(600)
def test_operator_whose_watches_stay_silent_ends(api_server, namespace, tmp_path):
    impatient = [sys.executable, "-m", "tests.parts.impatient_operator", str(IMPATIENT_SECONDS)]
    with (
        api_proxy.proxied(api_server.kubeconfig, tmp_path / "proxy") as proxy,
        real.running(tmp_path / "vault") as server,
    ):
        operator = operating.Operator(tmp_path / "operator", api_server.kubeconfig, server)
        operator.leads_through(proxy)
        operator.program = impatient
        try:
            operator.start()
            edits = replicas.Edits(api_server, namespace)
            edits.seconds_until_reconciled(last=operator.log)

            def silenced():
                proxy.silence()  # new ones too
                edits.edit()  # or there is nothing to miss
                return not operator.is_running()

            replicas.until(silenced, "end of the deaf", last=operator.log)
            assert "nothing arrives any more by the watch of" in operator.log()
        finally:
            operator.stop()
