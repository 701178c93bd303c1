import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import index_report
from embedding_contract.index_report import IndexReport, Problem, TargetReport
from embedding_contract.json_fields import InvalidDocument

WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
COUNTS = st.integers(0, 10**9)
REPORTS = st.builds(
    IndexReport,
    document=WORDS,
    serving=st.none() | WORDS,
    targets=st.lists(
        st.builds(
            TargetReport,
            id=WORDS,
            model=WORDS,
            dimensions=st.integers(1, 4000),
            space=WORDS,
            phase=st.sampled_from(index_report.PHASES),
            rows=COUNTS,
            done=COUNTS,
            parked=COUNTS,
            counts_exact=st.booleans(),
            rows_per_second=st.none() | st.floats(0, 1000),
            expected_end=st.none() | WORDS,
        ),
        max_size=2,
    ).map(tuple),
    problems=st.lists(
        st.builds(
            Problem,
            reason=WORDS,
            message=st.text(st.characters(codec="utf-8"), max_size=100),
            sqlstate=st.none() | WORDS,
            is_warning=st.booleans(),
        ),
        max_size=2,
    ).map(tuple),
    waits_until=st.none() | WORDS,
)


@given(REPORTS)
def test_report_is_read_as_it_was_written(report):
    assert index_report.parse(index_report.dump(report)) == report


def test_long_report_is_cut_to_what_kubernetes_keeps():
    problem = Problem(reason="PlanRefused", message="\N{GRINNING FACE}" * 3000)
    written = index_report.dump(IndexReport(document="d", problems=(problem,) * 9))
    assert len(written.encode()) <= index_report.MAX_BYTES
    found = index_report.parse(written)
    assert len(found.problems) == index_report.PROBLEMS_LIMIT
    assert problem.message.startswith(found.problems[0].message)
    assert found.problems[0].message


@given(st.text() | st.binary())
def test_anything_is_read_or_refused(text):
    try:
        index_report.parse(text)
    except InvalidDocument:
        return


def test_phase_that_is_none_is_refused():
    text = index_report.dump(
        IndexReport(
            document="d",
            targets=(
                TargetReport(
                    id="t",
                    model="m",
                    dimensions=3,
                    space="s",
                    phase="Dreaming",
                    rows=1,
                    done=0,
                    parked=0,
                ),
            ),
        )
    )
    with pytest.raises(InvalidDocument, match="phase"):
        index_report.parse(text)
