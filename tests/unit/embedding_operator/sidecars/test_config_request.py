"""One request to a sidecar: its proof, the answers that it accepts, and its time limits."""

import asyncio
import dataclasses
import json
import re

import pytest

from embedding_contract import index_report, names, proof
from embedding_operator import errors
from embedding_operator.sidecars import config_request, exchange, pages, targets
from embedding_operator.status import config_in_force
from tests.parts import answering

TOKEN = "t" * 43
ADDRESS = "127.0.7.1"
POD = targets.Pod(namespace="shop", name="pod-1", uid="uid-1", address=ADDRESS)


@pytest.fixture(scope="module")
def there():
    with answering.answering() as made:
        yield made


@pytest.fixture
def at(there):
    """Puts something at a new address; the pod that has it."""
    numbers = iter(range(1, 250))

    def put(behaviour):
        address = f"127.0.8.{len(there.accepted) + next(numbers)}"
        while address in there.accepted:
            address = f"127.0.8.{len(there.accepted) + next(numbers)}"
        there.accepted[address] = 0
        there.at(address, behaviour)
        return targets.Pod(namespace="shop", name="pod-1", uid="uid-1", address=address)

    return put


def given(head):
    found = answering.credentials(head)
    assert found is not None
    return found


def in_force(there, pod):
    return asyncio.run(config_request.Client(port=there.port).in_force(pod, token=TOKEN))


def quota(there, pod):
    return asyncio.run(config_request.Client(port=there.port).quota(pod, token=TOKEN))


def sidecar(**more):
    return answering.Sidecar(token=TOKEN, uid="uid-1", **more)


def test_sidecar_is_believed(there, at):
    pod = at(sidecar())
    assert in_force(there, pod) == pages.InForce(
        document="d", secrets="s", rejected=None, keys_refused=frozenset()
    )
    assert quota(there, pod).used == 1


def test_token_is_not_sent(there, at):
    held = sidecar()
    pod = at(held)
    in_force(there, pod)
    quota(there, pod)
    assert len(held.requests) == 2
    for head in held.requests:
        assert TOKEN.encode() not in head
        assert b"bearer" not in head.lower()


def test_request_asks_for_one_plain_answer(there, at):
    held = sidecar()
    pod = at(held)
    in_force(there, pod)
    head = held.requests[0].lower()
    assert head.startswith(f"get {names.PATH_CONFIG} http/1.1\r\n".encode())
    assert f"host: {pod.address}:{there.port}".encode() in head
    assert b"connection: close" in head
    assert b"accept-encoding: identity" in head


def test_each_request_has_nonce_of_its_own(there, at):
    held = sidecar()
    pod = at(held)
    for _ in range(3):
        in_force(there, pod)
    nonces = {given(head).nonce for head in held.requests}
    assert len(nonces) == 3


def test_sidecar_without_document_says_so(there, at):
    found = in_force(there, at(sidecar(status=503)))
    assert found == pages.NO_DOCUMENT


def test_status_that_no_sidecar_gives_is_named(there, at):
    assert in_force(there, at(sidecar(status=418))).message == "answered with status 418"


SLOW = "sent no complete answer within 0.5 s"
REASONS = {
    "drips a head": SLOW,
    "drips headers": SLOW,
    "drips a body": SLOW,
    "drips 1xx": SLOW,
    "1xx for ever": "answered with more than 80 KiB",
    "one 1xx": "sent no valid answer of a sidecar (an interim response)",
    "gzip of empty blocks": SLOW,
    "gzip": "sent no valid answer of a sidecar (content-encoding)",
    "tiny chunks": "sent no valid answer of a sidecar (transfer-encoding)",
    "endless body": "answered with more than 80 KiB",
    "endless head": "answered with more than 80 KiB",
    "a large head": "sent no valid answer of a sidecar (no head)",
    "accepts and is silent": SLOW,
    "resets": "reset the connection",
    "closes": "closed the connection without an answer",
    "no HTTP": "sent no valid answer of a sidecar (not HTTP/1.1)",
    "a length that is none": "sent no valid answer of a sidecar (not HTTP/1.1)",
    "cut short": "sent no valid answer of a sidecar (not HTTP/1.1)",
    "redirect to the metadata address": "answered with status 307 without a proof",
    "redirect to itself": "answered with status 307 without a proof",
    "bearer only": "runs a sidecar that is too old to prove the API token: restart the pod",
    "no proof": "answered with status 200 without a proof",
    "a wrong proof": "sent an answer with a wrong proof: it is not from the pod's sidecar",
    "two proofs": "answered with status 200 without a proof",
}


@pytest.mark.parametrize("kind", answering.HOSTILE)
def test_hostile_server_is_named_by_its_behaviour(there, at, kind, monkeypatch):
    monkeypatch.setattr(exchange, "DEADLINE_SECONDS", 0.5)
    pod = at(answering.HOSTILE[kind])
    found = in_force(there, pod)
    assert isinstance(found, errors.Problem)
    assert found.message == REASONS[kind]
    assert quota(there, pod) is None


def test_absent_sidecar_is_named():
    missing = targets.Pod(namespace="shop", name="p", uid="u", address="127.0.9.9")
    found = asyncio.run(config_request.Client(port=1).in_force(missing, token=TOKEN))
    assert found == errors.Problem(config_in_force.NO_ANSWER, "refused the connection")


@pytest.mark.parametrize("address", ["metadata.google.internal", "", "10.0.0.1/24"])
def test_address_that_is_name_is_not_looked_up(there, address):
    strange = targets.Pod(namespace="shop", name="p", uid="u", address=address)
    assert in_force(there, strange).message == "has no IP address"


def test_answer_of_another_pod_is_refused(there, at):
    """A pod hands the request on to a pod that holds the token, which sees whom it is for."""
    found = in_force(there, at(answering.Sidecar(token=TOKEN, uid="uid-2")))
    assert found.reason == config_in_force.NO_ANSWER
    assert "rejected the operator's proof" in found.message


def test_answer_that_was_given_before_is_no_proof(there, at):
    held = sidecar()
    pod = at(held)
    in_force(there, pod)
    replayed = at(answering.sends(held.answer(held.requests[0])))
    assert in_force(there, replayed).reason == config_in_force.UNPROVEN


def test_answer_to_another_path_is_no_proof(there, at):
    def relabelled(head):
        return head.replace(names.PATH_CONFIG.encode(), names.PATH_QUOTA.encode())

    held = sidecar()

    async def answer(head, _, writer):
        writer.write(held.answer(relabelled(head)))

    assert in_force(there, at(answer)).reason == config_in_force.NO_ANSWER


def test_proof_of_another_status_is_invalid(there, at):
    held = sidecar(status=503)

    async def answer(head, _, writer):
        writer.write(held.answer(head).replace(b"HTTP/1.1 503", b"HTTP/1.1 200"))

    assert in_force(there, at(answer)).reason == config_in_force.UNPROVEN


@pytest.mark.parametrize("kind", answering.STRANGE_PAGES)
def test_signed_invalid_page_is_refused(there, at, kind):
    pod = at(answering.saying(sidecar(), answering.STRANGE_PAGES[kind]))
    assert in_force(there, pod).message == "sent no valid answer of a sidecar (not its page)"
    assert quota(there, pod) is None


def test_request_takes_no_more_memory_than_its_bound(there, at, monkeypatch):
    """What is read ends with the first piece over the bound, whatever still comes."""
    read = []
    whole = exchange._parsed

    def parsed(connection, raw):
        read.append(len(raw))
        return whole(connection, raw)

    monkeypatch.setattr(exchange, "_parsed", parsed)
    in_force(there, at(answering.HOSTILE["endless body"]))
    assert read == []


def test_no_secret_is_in_repr():
    wanted = targets.Wanted(document="d", secrets="s", token="s3cr3t")
    assert "s3cr3t" not in repr(wanted)
    answer = exchange.Answer(200, (), b"s3cr3t")
    assert "s3cr3t" not in repr(answer)


def test_proof_is_for_one_pod_and_now(there, at):
    held = sidecar()
    pod = at(held)
    in_force(there, pod)
    found = given(held.requests[0])
    assert found.pod == "uid-1"
    assert re.fullmatch("[0-9a-f]{32}", found.nonce)
    assert found.is_signed(TOKEN, method="GET", path=names.PATH_CONFIG)
    assert not found.is_signed(TOKEN, method="GET", path=names.PATH_QUOTA)
    assert proof.parse(found.render()) == found


def test_pages_fit_bound():
    """A sidecar's page with the longest words is well below it."""
    page = {**answering.CONFIG, "rejected": "x" * pages.TEXT_CHARACTERS}
    assert len(json.dumps(page)) < exchange.ANSWER_BYTES / 2


def test_answer_in_tiny_segments_costs_few_reads(there, at, monkeypatch):
    reads = []

    class Loop(asyncio.SelectorEventLoop):
        async def sock_recv(self, sock, nbytes):
            reads.append(nbytes)
            return await super().sock_recv(sock, nbytes)

    async def trickle(_, __, writer):
        writer.get_extra_info("socket").setsockopt(6, 1, 1)  # TCP_NODELAY
        while not writer.transport.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0)

    monkeypatch.setattr(exchange, "DEADLINE_SECONDS", 0.5)
    asked = config_request.Client(port=there.port).in_force(at(trickle), token=TOKEN)
    with asyncio.Runner(loop_factory=Loop) as runner:
        assert isinstance(runner.run(asked), errors.Problem)
    assert len(reads) <= 0.5 / exchange._READ_APART_SECONDS + 1


def test_sidecar_on_ipv6_is_asked(there):
    held = sidecar()
    there.at("::1", held)
    pod = targets.Pod(namespace="shop", name="pod-1", uid="uid-1", address="::1")
    assert isinstance(in_force(there, pod), pages.InForce)
    assert f"host: [::1]:{there.port}".encode() in held.requests[0].lower()


REPORT = index_report.IndexReport(document="d", serving="public.articles.embedding")


def working(pod):
    return dataclasses.replace(pod, is_of_index=True)


def index_in_force(there, pod):
    asked = config_request.Client(port=1, index_port=there.port)
    return asyncio.run(asked.in_force(working(pod), token=TOKEN))


def test_pod_of_index_is_asked_for_its_report_on_port_of_indexes(there, at):
    page = json.loads(index_report.dump(REPORT))
    pod = at(sidecar(pages={names.PATH_INDEX: page}))
    assert index_in_force(there, pod) == pages.InForce(
        document="d", secrets="", rejected=None, report=REPORT
    )


def test_report_without_its_proof_is_not_believed(there, at):
    body = index_report.dump(REPORT).encode()
    pod = at(answering.sends(answering.rendered(200, body)))
    found = index_in_force(there, pod)
    assert isinstance(found, errors.Problem)
    assert found.reason == config_in_force.UNPROVEN


@pytest.mark.parametrize("kind", answering.STRANGE_PAGES)
def test_strange_report_is_none_whoever_signed_it(there, at, kind):
    pod = at(answering.saying(sidecar(), answering.STRANGE_PAGES[kind]))
    found = index_in_force(there, pod)
    if isinstance(found, errors.Problem):
        assert found.reason == config_in_force.NO_ANSWER
    else:
        assert found.report is not None
