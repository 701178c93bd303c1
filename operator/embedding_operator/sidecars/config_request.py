"""Ask one sidecar; request and answer prove the API token to each other.

The token itself is never sent, as any program may answer on a pod's address
(embedding_contract.proof).
"""

import secrets
import time
from http import HTTPStatus

from embedding_contract import names, proof
from embedding_operator import errors
from embedding_operator.sidecars import exchange, pages
from embedding_operator.sidecars.exchange import Answer, NoAnswerError
from embedding_operator.sidecars.pages import InForce
from embedding_operator.sidecars.targets import Pod
from embedding_operator.status import config_in_force, quota_status


class Client:
    """Asks sidecars and containers of an index, each on a port of its pod."""

    def __init__(
        self, *, port: int = names.ADMIN_PORT, index_port: int = names.VECTORS_PORT
    ) -> None:
        self._port = port
        self._index_port = index_port

    async def in_force(self, pod: Pod, *, token: str) -> InForce | errors.Problem:
        """The report of a pod, or a problem, whose text follows the pod's name."""
        path = names.PATH_INDEX if pod.is_of_index else names.PATH_CONFIG
        answer = await self._ask(pod, path, token)
        if isinstance(answer, errors.Problem):
            is_older = answer.reason == config_in_force.OUTDATED and not pod.is_of_index
            return await self._by_metrics(pod, answer) if is_older else answer
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return pages.NO_DOCUMENT
        try:
            if answer.status == HTTPStatus.OK:
                read = pages.index_in_force if pod.is_of_index else pages.in_force
                return read(answer.body)
        except ValueError:
            return errors.Problem(
                config_in_force.NO_ANSWER, "sent no valid answer of a sidecar (not its page)"
            )
        return errors.Problem(config_in_force.NO_ANSWER, f"answered with status {answer.status}")

    async def _by_metrics(self, pod: Pod, problem: errors.Problem) -> InForce | errors.Problem:
        """The report of a sidecar that knows Bearer alone: its metrics, without a proof."""
        try:
            answer = await exchange.get(
                pod.address, self._port, target=names.PATH_METRICS, headers={}
            )
            return pages.in_force_by_metrics(answer.body)
        except (NoAnswerError, ValueError):
            return problem

    async def quota(self, pod: Pod, *, token: str) -> quota_status.LiveQuota | None:
        """The live quota; None if it cannot be read."""
        answer = await self._ask(pod, names.PATH_QUOTA, token)
        if isinstance(answer, errors.Problem) or answer.status != HTTPStatus.OK:
            return None
        try:
            return pages.quota(answer.body)
        except ValueError:
            return None

    async def _ask(self, pod: Pod, path: str, token: str) -> Answer | errors.Problem:
        """An answer signed by the sidecar."""
        nonce = secrets.token_hex(proof.NONCE_HEX_DIGITS // 2)
        credentials = proof.sign_request(
            token, method="GET", path=path, nonce=nonce, time=int(time.time()), pod=pod.uid
        )
        headers = {"Authorization": credentials.render()}
        try:
            port = self._index_port if pod.is_of_index else self._port
            answer = await exchange.get(pod.address, port, target=path, headers=headers)
        except NoAnswerError as error:
            return errors.Problem(config_in_force.NO_ANSWER, str(error))
        given = answer.header(proof.ANSWER_HEADER)
        if given is None:
            return _unsigned(answer)
        if not proof.is_answer_signed(
            token, given, nonce=nonce, status=answer.status, body=answer.body
        ):
            return errors.Problem(
                config_in_force.UNPROVEN,
                "sent an answer with a wrong proof: it is not from the pod's sidecar",
            )
        return answer


def _unsigned(answer: Answer) -> errors.Problem:
    if answer.status == HTTPStatus.UNAUTHORIZED:
        if proof.SCHEME.lower() in (answer.header("www-authenticate") or "").lower():
            return errors.Problem(
                config_in_force.NO_ANSWER,
                "rejected the operator's proof: it has another API token, or its clock is more than"
                f" {proof.MAX_SKEW_SECONDS} s off",
            )
        return errors.Problem(
            config_in_force.OUTDATED,
            "runs a sidecar that is too old to prove the API token: restart the pod",
        )
    return errors.Problem(
        config_in_force.UNPROVEN, f"answered with status {answer.status} without a proof"
    )
