"""`embedding-vectors plan` prints the SQL that an index needs; `apply` runs it."""

import argparse
import asyncio
import sys
from typing import Any

from embedding_contract.index_report import Problem
from embedding_contract.json_fields import InvalidDocument
from embedding_vectors import settings
from embedding_vectors.database import connections
from embedding_vectors.errors import DatabaseError, RefusedError
from embedding_vectors.schema import apply, plan


def add_to(commands: Any) -> None:
    """Add `plan` and `apply` to a parser's subcommands."""
    planned = commands.add_parser("plan", help="print the SQL that an index needs")
    settings.add_arguments(planned)
    planned.set_defaults(run=lambda options: _run(options, applies=False))
    applied = commands.add_parser("apply", help="run the SQL of the plan that is not done yet")
    settings.add_arguments(applied)
    applied.set_defaults(run=lambda options: _run(options, applies=True))


def _run(options: argparse.Namespace, *, applies: bool) -> int:
    try:
        chosen = settings.of(options)
        loaded = settings.load(chosen, name=options.name)
        made = asyncio.run(_plan(chosen, loaded, applies=applies))
    except (OSError, InvalidDocument, DatabaseError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except RefusedError as error:
        _complain(error.problems)
        return 1
    _complain(made.warnings)
    if not applies:
        sys.stdout.write(render(made))
    _complain(made.refusals)
    return 1 if made.refusals else 0


async def _plan(chosen: settings.Settings, loaded: settings.Loaded, *, applies: bool) -> plan.Plan:
    document = loaded.document
    opened = connections.of_settings(
        chosen, application=f"embedding-vectors/{document.name}", most=2
    )
    try:
        if applies:
            facts = await apply.apply(opened, document, say=_say)
        else:
            facts = await apply.read(opened, document)
    finally:
        opened.close()
    return plan.make(document, facts)


def render(made: plan.Plan) -> str:
    """The plan as SQL, with the steps already done as comments."""
    lines = []
    for step in made.steps:
        lines.append(f"-- {step.name}{': done' if step.is_done else ''}")
        if not step.is_done:
            lines += [f"{statement.as_string()};" for statement in step.statements]
    return "".join(f"{line}\n" for line in lines)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _complain(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        kind = "warning" if problem.is_warning else "refused"
        sys.stderr.write(f"{kind}: {problem.reason}: {problem.message}\n")
