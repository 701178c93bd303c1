"""Parse a sidecar's pages: pure. Any program may answer on a pod's address.

So only values with the type, the size and the range of a sidecar's reach a status.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from embedding_contract import formats, index_report
from embedding_contract.index_report import IndexReport
from embedding_operator.status import quota_status

TEXT_CHARACTERS: Final = 500
COUNT_LIMIT: Final = 2**62
YEARS: Final = range(2000, 2200)
"""Other years cannot end a quota's period, and the API server may refuse them."""
PROVIDERS_LIMIT: Final = 8  # the bound of the resource's schema, as the next one
ID_CHARACTERS: Final = 256
MODEL_CHARACTERS: Final = 128
DIMENSIONS_LIMIT: Final = 2**31 - 1
MODES: Final = frozenset({"Enforce", "Observe"})
PERIODS: Final = frozenset({"day", "month"})
UNITS: Final = frozenset({"requests", "tokens", "cost"})
LIMITS_LIMIT: Final = len(PERIODS) * len(UNITS)
AMOUNT_LIMIT: Final = 10**15  # the bound of the resource's schema
_DOLLARS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)
_REASON: Final = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")
_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SQLSTATE: Final = re.compile(r"[0-9A-Z]{5}")
_FORMATS: Final = range(formats.FIRST, 10**6)
_REJECTS: Final = "rejects the newest document"
_INFO: Final = re.compile(
    r'^aos_embedding_policy_info\{document="([0-9a-f]{0,64})"\} 1(?:\.0)?$', re.MULTILINE
)
_REJECTED: Final = re.compile(r"^aos_embedding_policy_rejected ([01])(?:\.0)?$", re.MULTILINE)
_REFUSED: Final = re.compile(
    r'^aos_embedding_key_refused\{provider="([-a-z0-9]{1,40})"\} 1(?:\.0)?$', re.MULTILINE
)
_PROVIDER: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """The report of a sidecar; `rejected` is the reason why it rejected a newer document.

    `keys_refused` names providers that reject the newest key, `failures` failing providers with
    the reason; None from older sidecars. Both fingerprints are empty without a document. `report`
    comes from a pod of an index. `secrets` is None from a sidecar that cannot prove its report:
    its page without a token does not tell. `format` is that of the documents that it reads.
    """

    document: str
    secrets: str | None
    rejected: str | None
    keys_refused: frozenset[str] | None = None
    failures: frozenset[tuple[str, str]] | None = None
    report: IndexReport | None = None
    format: int = formats.CURRENT


NO_DOCUMENT: Final = InForce(document="", secrets="", rejected=None)


def in_force(body: bytes) -> InForce:
    """Read the page `names.PATH_CONFIG`.

    Raises:
        ValueError: it is not a page of a sidecar.
    """
    page = _object(body)
    rejected = page.get("rejected", "")
    return InForce(
        document=_text(page.get("document_fingerprint")),
        secrets=_text(page.get("secrets_fingerprint")),
        rejected=None if rejected is None else _text(rejected),
        # Sidecars outlive an upgrade of the operator, and older ones lack these.
        keys_refused=_names(page["keys_refused"]) if "keys_refused" in page else None,
        failures=_failures(page["failures"]) if "failures" in page else None,
        format=_format(page.get("format", formats.PROVEN)),
    )


def in_force_by_metrics(body: bytes) -> InForce:
    """Read the metrics page of a sidecar that is too old to prove the API token.

    Raises:
        ValueError: it is not such a page.
    """
    text = body.decode("ascii")
    (document,) = _INFO.findall(text)
    (rejected,) = _REJECTED.findall(text)
    return InForce(
        document=document,
        secrets=None,
        rejected=_REJECTS if rejected == "1" else None,
        keys_refused=_names(_REFUSED.findall(text)),
        format=formats.FIRST,
    )


def quota(body: bytes) -> quota_status.LiveQuota:
    """Read the page `names.PATH_QUOTA`.

    Raises:
        ValueError: it is not a page of a sidecar.
    """
    page = _object(body)
    limit = page.get("daily_quota", "")
    return quota_status.LiveQuota(
        used=_count(page.get("current_count")),
        limit=None if limit is None else _count(limit),
        reset_at=_time(page.get("reset_at")),
        exact=page.get("exact") is True,
        exact_reason=_text(page.get("exact_reason")),
        # Older sidecars lack these.
        mode=_one_of(MODES, page["mode"]) if "mode" in page else "",
        limits=_limits(page.get("limits", [])),
    )


def _limits(value: object) -> tuple[quota_status.LiveLimit, ...]:
    if not isinstance(value, list) or len(value) > LIMITS_LIMIT:
        raise ValueError(value)
    return tuple(map(_limit, value))


def _limit(entry: object) -> quota_status.LiveLimit:
    if not isinstance(entry, dict):
        raise ValueError(entry)  # noqa: TRY004 - about input, not an argument
    unit = _one_of(UNITS, entry.get("unit"))
    amount: Callable[[object], int | str] = _dollars if unit == "cost" else _amount
    return quota_status.LiveLimit(
        period=_one_of(PERIODS, entry.get("period")),
        unit=unit,
        limit=amount(entry.get("limit")),
        used=amount(entry.get("used")),
        reserved=amount(entry.get("reserved", "0" if unit == "cost" else 0)),
        reset_at=_time(entry.get("reset_at")),
    )


def index_in_force(body: bytes) -> InForce:
    """Read the page `names.PATH_INDEX`.

    Raises:
        ValueError: it is not a page of a pod of an index.
    """
    report = index_report_of(body)
    return InForce(document=report.document, secrets="", rejected=None, report=report)


def index_report_of(text: bytes | str) -> IndexReport:
    """Read the report of a pod, or its termination message.

    Raises:
        ValueError: it is not a report.
    """
    found = index_report.parse(text)
    return replace(
        found,
        document=_text(found.document),
        serving=None if found.serving is None else _text(found.serving)[:ID_CHARACTERS],
        targets=tuple(map(_target, found.targets)),
        problems=tuple(
            replace(
                it,
                reason=it.reason if _REASON.fullmatch(it.reason) else "Unknown",
                message=_text(it.message),
                sqlstate=it.sqlstate if _SQLSTATE.fullmatch(it.sqlstate or "") else None,
            )
            for it in found.problems
        ),
        waits_until=_moment(found.waits_until),
    )


def _target(found: index_report.TargetReport) -> index_report.TargetReport:
    return replace(
        found,
        id=_text(found.id)[:ID_CHARACTERS],
        model=_text(found.model)[:MODEL_CHARACTERS],
        dimensions=min(found.dimensions, DIMENSIONS_LIMIT),
        space=_text(found.space),
        expected_end=_moment(found.expected_end),
    )


def _moment(value: str | None) -> str | None:
    """A time in the form of a status; None if it is not valid."""
    try:
        return None if value is None else _time(value).strftime("%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return None


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        page = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(page, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - about input, not an argument
    return page


def _format(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value not in _FORMATS:
        raise ValueError(value)
    return value


def _names(value: object) -> frozenset[str]:
    if not isinstance(value, list) or len(value) > PROVIDERS_LIMIT:
        raise ValueError(value)
    if not all(isinstance(name, str) and _PROVIDER.fullmatch(name) for name in value):
        raise ValueError(value)
    return frozenset(value)


def _failures(value: object) -> frozenset[tuple[str, str]]:
    if not isinstance(value, dict):
        raise ValueError(value)  # noqa: TRY004 - about input, not an argument
    if not all(isinstance(it, str) and _WORD.fullmatch(it) for it in value.values()):
        raise ValueError(value)
    _names(list(value))
    return frozenset(value.items())


def _text(value: object) -> str:
    """A bounded text without control characters and surrogates."""
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 - as above
    return "".join(it if it.isprintable() else " " for it in value[:TEXT_CHARACTERS])


def _one_of(words: frozenset[str], value: object) -> str:
    if not isinstance(value, str) or value not in words:
        raise ValueError(value)
    return value


def _amount(value: object) -> int:
    found = _count(value)
    if found > AMOUNT_LIMIT:
        raise ValueError(value)
    return found


def _dollars(value: object) -> str:
    if not isinstance(value, str) or not _DOLLARS.fullmatch(value):
        raise ValueError(value)
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= COUNT_LIMIT:
        raise ValueError(value)
    return value


def _time(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 - as above
    found = datetime.fromisoformat(value)
    if found.tzinfo is None or found.year not in YEARS:
        raise ValueError(value)
    return found.astimezone(UTC)
