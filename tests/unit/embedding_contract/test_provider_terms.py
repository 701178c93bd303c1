"""The terms of a provider come back from the document as they were written (B3, B4, B5, A5)."""

from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import document, provider_terms

COUNTS = st.none() | st.integers(1, 2**24)
SECONDS = st.none() | st.integers(1, provider_terms.MAX_SECONDS)
FIELDS = st.builds(
    provider_terms.PassThroughField,
    name=st.from_regex(r"[a-z_]{1,16}", fullmatch=True),
    changes_space=st.booleans(),
)


@given(
    limits=st.builds(
        provider_terms.Limits, items=COUNTS, body_bytes=COUNTS, tokens_per_item=COUNTS
    ),
    call_seconds=SECONDS,
    request_seconds=SECONDS,
    fields=st.lists(FIELDS, max_size=3).map(tuple),
)
def test_terms_are_read_as_they_were_written(limits, call_seconds, request_seconds, fields):
    written = document.PolicyDocument(
        namespace="n",
        name="p",
        providers=(
            document.Provider(
                name="p",
                kind="OpenAICompatible",
                model="m",
                base_url="http://p/v1",
                limits=limits,
                call_seconds=call_seconds,
                request_seconds=request_seconds,
                pass_through_fields=fields,
            ),
        ),
    )
    assert document.parse(document.dump(written)) == written
