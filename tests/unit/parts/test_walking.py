"""The values that may differ between a policy that was edited and a fresh one."""

import pytest

from embedding_contract import names
from embedding_operator.kube import kinds
from tests.parts import policy_walks, walking
from tests.parts.policy_walks import Step, Walk

ENTRY = names.secret_provider_key("one")
OPENAI = {"name": "one", "type": "OpenAI", "model": "e5"}
ELSEWHERE = {**OPENAI, "baseURL": "https://models.example/v1"}
MISTRAL = {**OPENAI, "type": "Mistral"}
PLATFORM = {"ref": "platform"}


def walk(*providers):
    steps = [Step({"providers": [it]}, index=None, is_awaited=True) for it in providers]
    return Walk(steps)


def policy(*, are_read):
    status = "True" if are_read else "False"
    return kinds.POLICY, {"status": {"conditions": [{"type": "SecretsSynced", "status": status}]}}


def secret(name, **data):
    return kinds.SECRET, {"metadata": {"name": name}, "data": data}


@pytest.mark.parametrize(
    ("steps", "moved"),
    [
        ([OPENAI, MISTRAL, OPENAI], set()),
        ([OPENAI, ELSEWHERE, {**ELSEWHERE, "baseURL": "https://models.example/v1/"}], set()),
        ([OPENAI, OPENAI, MISTRAL], {ENTRY}),
        ([OPENAI, PLATFORM, ELSEWHERE], {ENTRY}),
        ([OPENAI, OPENAI, PLATFORM], set()),
    ],
)
def test_key_of_provider_called_elsewhere_before_is_moved(steps, moved):
    assert policy_walks.moved_keys(walk(*steps)) == moved


def test_last_good_values_are_left_out_where_values_cannot_be_read():
    unread = policy(are_read=False)
    fresh = [unread, secret("owned", token="t")]
    walked = [unread, secret("owned", token="t", url="u"), secret("app", KEY="k")]
    assert walking.without_last_good(walked, fresh, frozenset()) == fresh


def test_key_of_another_provider_is_not_left_out():
    unread = policy(are_read=False)
    walked = [unread, secret("owned", **{"token": "t", ENTRY: "k"})]
    fresh = [unread, secret("owned", token="t")]
    assert walking.without_last_good(walked, fresh, frozenset({ENTRY})) == walked


def test_values_stay_in_comparison_where_all_are_read():
    read = policy(are_read=True)
    walked = [read, secret("owned", token="t", url="u")]
    fresh = [read, secret("owned", token="t")]
    assert walking.without_last_good(walked, fresh, frozenset()) == walked
