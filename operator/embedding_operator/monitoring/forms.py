"""Learn how a Prometheus lists the expressions of each group: pure.

Prometheus reformats expressions, and `enforcedNamespaceLabel` adds matchers, so listed expressions
cannot be compared with rendered ones. But the list changes once an edit is loaded: until then it
equals the list for the expressions before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from embedding_operator.monitoring.rules import Group, Loaded

FORMS_KEPT: Final = 4
"""The number of remembered expressions of one group, the latest."""


@dataclass(slots=True)
class Forms:
    """The listed form of each group's earlier expressions."""

    _listed: dict[str, dict[str, str]] = field(default_factory=dict)

    def judged(self, found: Mapping[str, Loaded], wanted: Mapping[str, Group]) -> dict[str, Loaded]:
        """The groups; one that is listed like other expressions before is not current."""
        for gone in self._listed.keys() - wanted.keys():
            del self._listed[gone]
        return {name: self._judged(loaded, wanted[name]) for name, loaded in found.items()}

    def _judged(self, loaded: Loaded, group: Group) -> Loaded:
        if not loaded.is_current:
            return loaded
        known = self._listed.setdefault(group.name, {})
        others = {listed for wanted, listed in known.items() if wanted != group.expressions}
        if loaded.queries in others and known.get(group.expressions) != loaded.queries:
            return replace(loaded, is_current=False)
        known.pop(group.expressions, None)
        known[group.expressions] = loaded.queries
        while len(known) > FORMS_KEPT:
            del known[next(iter(known))]
        return loaded
