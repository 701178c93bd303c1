"""Label selectors, against a naive reading of the API's documentation."""

from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.kube import label_selectors

KEYS = st.sampled_from(["app", "tier", "team"])
VALUES = st.sampled_from(["a", "b", ""])
LABELS = st.dictionaries(KEYS, VALUES)
REQUIREMENTS = st.one_of(
    st.fixed_dictionaries(
        {
            "key": KEYS,
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(VALUES, min_size=1),
        }
    ),
    st.fixed_dictionaries({"key": KEYS, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
)
SELECTORS = st.fixed_dictionaries(
    {},
    optional={"matchLabels": LABELS, "matchExpressions": st.lists(REQUIREMENTS, max_size=3)},
)


def naive(selector, labels):
    for key, value in selector.get("matchLabels", {}).items():
        if key not in labels or labels[key] != value:
            return False
    for requirement in selector.get("matchExpressions", []):
        key, operator = requirement["key"], requirement["operator"]
        if operator == "In" and not (key in labels and labels[key] in requirement["values"]):
            return False
        if operator == "NotIn" and key in labels and labels[key] in requirement["values"]:
            return False
        if operator == "Exists" and key not in labels:
            return False
        if operator == "DoesNotExist" and key in labels:
            return False
    return True


@given(SELECTORS, LABELS)
def test_label_selector_means_what_kubernetes_means(selector, labels):
    assert label_selectors.matches(selector, labels) == naive(selector, labels)


def test_unknown_operator_selects_nothing():
    selector = {"matchExpressions": [{"key": "app", "operator": "Gt", "values": ["1"]}]}
    assert not label_selectors.matches(selector, {"app": "2"})
