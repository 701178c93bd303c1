"""In which form one Prometheus lists the expressions of each group: pure, and learned.

Prometheus formats an expression anew, and `enforcedNamespaceLabel` adds matchers to it, so what it
lists cannot be compared with what was rendered. But what it lists changes once it has loaded an
edit: until then it lists what it did for the expressions before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from embedding_operator.monitoring.rules import Group, Loaded

FORMS_KEPT: Final = 4
"""Expressions of one group that are remembered, the latest."""


@dataclass(slots=True)
class Forms:
    """By group, how the expressions that were once wanted were listed."""

    _listed: dict[str, dict[str, str]] = field(default_factory=dict)

    def judged(self, found: Mapping[str, Loaded], wanted: Mapping[str, Group]) -> dict[str, Loaded]:
        """The groups, of which none is current that is listed as other expressions were."""
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
