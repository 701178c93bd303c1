"""Panels and dashboards as values, and their form in Grafana's own types (grafana-foundation-sdk).

A panel says what is asked, in which unit and why; colours and legends are the same everywhere.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models

COLUMNS: Final = 24
DATASOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
"""The data source that the person chose at the top of the dashboard."""

Unit = Literal["short", "s", "bytes", "percentunit", "reqps", "cps", "currencyUSD", "rowsps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One PromQL expression; `legend` names its series, with labels as `{{label}}`."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel. `form` is a number (the newest value) or lines over time; `span` of 24 columns."""

    title: str
    description: str
    unit: Unit
    queries: tuple[Query, ...]
    form: Literal["stat", "timeseries"] = "timeseries"
    span: int = 8
    thresholds: tuple[tuple[float, str], ...] = ()
    no_value: str | None = None
    decimals: int | None = None

    @property
    def height(self) -> int:
        """Rows of the grid."""
        return 4 if self.form == "stat" else 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A choice at the top of a dashboard: values that `query` finds, or a text with a default."""

    name: str
    label: str
    query: str | None = None
    default: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A whole dashboard. `uid` is fixed, so that links to it outlive an upgrade."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    panels: tuple[Panel, ...]

    @property
    def file(self) -> str:
        """Its file name."""
        return f"{self.uid}.json"


def dump(wanted: Dashboard) -> str:
    """The dashboard as Grafana imports it: JSON, without `__inputs` and without an id."""
    made = (
        builders.Dashboard(wanted.title)
        .uid(wanted.uid)
        .description(wanted.description)
        .tags(["embedding-operator"])
        .timezone("browser")
        .refresh("30s")
        .time("now-6h", "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .editable()
        .with_variable(
            builders.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
    )
    for variable in wanted.variables:
        made.with_variable(_variable(variable))
    for number, panel in enumerate(wanted.panels, 1):
        made.with_panel(_panel(panel, number=number))
    return json.dumps(made.build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def expressions(dashboard: dict[str, Any]) -> list[tuple[str, str]]:
    """Title and expression of each query of a dashboard that was loaded from JSON."""
    return [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]


def _variable(variable: Variable) -> Any:
    if variable.query is None:
        return (
            builders.TextBoxVariable(variable.name)
            .label(variable.label)
            .description(variable.description)
            .default_value(variable.default)
            .current(models.VariableOption(text=variable.default, value=variable.default))
        )
    return (
        builders.QueryVariable(variable.name)
        .label(variable.label)
        .datasource(DATASOURCE)
        .query(variable.query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        # Not Grafana's own list of all values: series of a sidecar that runs without Kubernetes
        # have no such label.
        .all_value(".*")
        .current(models.VariableOption(text="All", value="$__all"))
    )


def _panel(panel: Panel, *, number: int) -> Any:
    made: Any = stat.Panel() if panel.form == "stat" else timeseries.Panel()
    made.title(panel.title).description(panel.description).unit(panel.unit).id(number)
    made.datasource(DATASOURCE).span(panel.span).height(panel.height)
    made.thresholds(_thresholds(panel.thresholds))
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        made.with_target(_target(query, letter=letter, instant=panel.form == "stat"))
    if panel.no_value is not None:
        made.no_value(panel.no_value)
    if panel.decimals is not None:
        made.decimals(panel.decimals)
    if panel.form == "stat":
        has_limits = bool(panel.thresholds)
        colour = common.BigValueColorMode.VALUE if has_limits else common.BigValueColorMode.NONE
        made.color_mode(colour).graph_mode(common.BigValueGraphMode.NONE)
        made.text_mode(common.BigValueTextMode.AUTO)
        made.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        return made
    made.min(0).fill_opacity(8).line_width(2).show_points(common.VisibilityMode.NEVER)
    legend = common_builders.VizLegendOptions().show_legend(show_legend=True)
    legend.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)
    made.legend(legend)
    tooltip = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    return made.tooltip(tooltip)


def _target(query: Query, *, letter: str, instant: bool) -> Any:
    made = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter)
    return made.instant() if instant else made.range()


def _thresholds(steps: Sequence[tuple[float, str]]) -> Any:
    lowest = models.Threshold(value=None, color="text" if not steps else "red")
    above = [models.Threshold(value=value, color=colour) for value, colour in steps]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps([lowest, *above])
