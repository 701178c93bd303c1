"""A repeated message is logged once a minute, with its count."""

import logging

from embedding_operator.injection import log_limiter


class Run:
    """Errors under a clock."""

    def __init__(self):
        self.seconds = 0.0
        self.told = log_limiter.LogLimiter(logging.getLogger("repeated"), lambda: self.seconds)

    def fail(self, reason, times=1):
        for _ in range(times):
            try:
                {}[reason]
            except KeyError:
                self.told.error(reason, "it failed")


def test_each_reason_is_logged_once_per_minute_with_count(caplog):
    run = Run()
    run.fail("A", 500)
    run.fail("B")
    run.seconds += log_limiter.PERIOD_SECONDS - 1
    run.fail("A", 500)
    run.seconds += 1
    run.fail("A")
    run.fail("B")
    run.seconds += log_limiter.PERIOD_SECONDS
    run.fail("A")
    assert [it.getMessage() for it in caplog.records] == [
        "A: it failed",
        "B: it failed",
        "A: it failed (999 more like it since the last line)",
        "B: it failed",
        "A: it failed",
    ]
    assert all(it.exc_info for it in caplog.records)
