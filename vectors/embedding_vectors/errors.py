"""Failures of this package. The one question they answer: does a retry help?"""

from embedding_contract.index_report import Problem


class RefusedError(Exception):
    """The index cannot be carried out as it is; `problems` say why. A retry does not help."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(f"{it.reason}: {it.message}" for it in problems))
        self.problems = problems


class DatabaseError(Exception):
    """The database did not do what was asked. `problem` holds no word of its message or the DSN.

    `retry_helps` is False where a person has to change something first.
    """

    def __init__(self, problem: Problem, *, retry_helps: bool) -> None:
        super().__init__(f"{problem.reason}: {problem.message}")
        self.problem = problem
        self.retry_helps = retry_helps
