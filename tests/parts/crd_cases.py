"""Cases of a resource, good and bad, whose first line names the refuser of a bad one, and why.

`# expect: WORDS` is refused by the API server, in these words; `# condition: Accepted=False REASON:
WORDS` is admitted, and refused by the operator.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.parts.kubectl import Kubectl, KubectlError

CASES = Path(__file__).parents[1] / "contract" / "cases"
_BY_API_SERVER = re.compile(r"# expect: (?P<message>.+)")
_BY_OPERATOR = re.compile(r"# condition: Accepted=False (?P<reason>\w+): (?P<message>.+)")


def of(folder: str) -> list[Path]:
    """All cases in a folder."""
    return sorted((CASES / folder).glob("*.yaml"))


def refused(cases: list[Path]) -> list[Path]:
    """Those that the API server refuses."""
    return [case for case in cases if _BY_API_SERVER.fullmatch(_first_line(case))]


def admitted(cases: list[Path]) -> list[Path]:
    """Those that only the operator refuses."""
    return [case for case in cases if _BY_OPERATOR.fullmatch(_first_line(case))]


def stem(case: Path) -> str:
    """The name of a case in the names of tests."""
    return case.stem


def admit(api_server: Kubectl, namespace: str, case: Path, *, kind: str) -> Any:
    """Create it; the object as it stands in the API server, defaults filled in."""
    api_server("create", "-n", namespace, "--validate=strict", "-f", str(case))
    name = yaml.safe_load(case.read_text(encoding="utf-8"))["metadata"]["name"]
    return api_server.get(kind, name, "-n", namespace)


def check_refused_by_api_server(api_server: Kubectl, case: Path) -> None:
    """The API server refuses it in the words that it expects."""
    expected = _BY_API_SERVER.fullmatch(_first_line(case))
    assert expected is not None
    with pytest.raises(KubectlError) as refusal:
        api_server(
            "create", "--dry-run=server", "--validate=strict", "-n", "default", "-f", str(case)
        )
    # In a Status the API server quotes quotes.
    assert expected["message"] in refusal.value.said.replace('\\"', '"')


def check_reason(refusal: Any, case: Path) -> None:
    """The operator's refusal has the reason and the words that the case expects."""
    expected = _BY_OPERATOR.fullmatch(_first_line(case))
    assert expected is not None
    assert refusal.reason == expected["reason"]
    assert expected["message"] in str(refusal)


def _first_line(case: Path) -> str:
    return case.read_text(encoding="utf-8").partition("\n")[0]
