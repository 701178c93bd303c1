"""The answers of where.yaml, which file names are judged by, are true."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TASKS = yaml.safe_load(Path(__file__).with_name("where.yaml").read_text(encoding="utf-8"))


def test_task_list_has_twenty_tasks_with_one_file_each():
    assert len({it["task"] for it in TASKS}) == len({it["file"] for it in TASKS}) == 20


@pytest.mark.parametrize("entry", TASKS, ids=lambda it: it["task"].replace(" ", "-"))
def test_answer_file_holds_what_task_is_about(entry):
    assert entry["holds"] in (ROOT / entry["file"]).read_text(encoding="utf-8")
