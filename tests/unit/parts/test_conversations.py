"""The conversations of the fuzz are as intended, by another parser of HTTP."""

from hypothesis import given
from hypothesis import strategies as st

from tests.parts import conversations

TARGETS = st.sampled_from([*conversations.OTHERS, *conversations.PASSED])


def ends(form):
    """Whether this request itself ends its connection."""
    return form.version == b"1.0"


@given(conversations.conversations(TARGETS, conversations.NEAR))
def test_h11_reads_requests_that_are_meant(conversation):
    asked = conversation.spoken("c")
    # h11 passes over no empty lines.
    raw = b"".join(it.raw.removeprefix(it.form.before) for it in asked)
    assert b"".join(conversation.segments(raw)) == raw
    kept = next((at for at, it in enumerate(asked, 1) if ends(it.form)), len(asked))
    meant = [
        (
            it.form.target.method,
            b"http://localhost" * it.form.is_absolute + it.form.target.path,
            it.body,
        )
        for it in asked[:kept]
    ]
    assert conversations.asked_by(raw, count=len(asked)) == meant
