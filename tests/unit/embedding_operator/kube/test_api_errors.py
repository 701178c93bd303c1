"""Refusals of the API server: their reason for a condition, and nothing of an object's content."""

import json

import pytest

from embedding_operator import errors
from embedding_operator.kube import api_errors

SECRETS = "PATCH /api/v1/namespaces/shop/secrets/embedding-search"


def refusal(request=SECRETS, **answer):
    found = api_errors.of(403, json.dumps(answer).encode(), {}, request)
    assert isinstance(found, errors.Denied)
    return found


def test_quota_that_is_used_up_is_named_with_its_limits():
    found = refusal(
        reason="Forbidden",
        message='secrets "embedding-search" is forbidden: exceeded quota: few, requested:'
        " count/secrets=1, used: count/secrets=2, limited: count/secrets=2",
    )
    assert found.reason == "ObjectQuotaExceeded"
    assert "the ResourceQuota few of the namespace is used up" in str(found)
    assert str(found).endswith("limited: count/secrets=2")


def test_message_about_secret_that_names_quota_quotes_nothing_else():
    found = refusal(message='exceeded quota: few, data: c2stc2VjcmV0, limited: "c2stc2VjcmV0"')
    assert found.reason == "ObjectQuotaExceeded"
    assert "c2stc2VjcmV0" not in str(found)


def test_namespace_that_is_being_deleted_is_told():
    found = refusal(
        reason="Forbidden",
        message="unable to create new content in namespace shop because it is being terminated",
        details={"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]},
    )
    assert found.reason == "NamespaceTerminating"
    assert "the namespace is being deleted" in str(found)


@pytest.mark.parametrize("details", [None, {}, {"causes": None}, {"causes": ["text"]}])
def test_other_refusal_keeps_its_reason_only(details):
    found = refusal(reason="Forbidden", message="may not", details=details)
    assert (found.reason, str(found)) == ("Refused", f"{SECRETS}: 403 Forbidden")
