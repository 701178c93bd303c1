// The files beside this one, in the form that mixins have: https://monitoring.mixins.dev
{
  grafanaDashboards+:: {
    'embedding-cost.json': import 'dashboards/embedding-cost.json',
    'embedding-operations.json': import 'dashboards/embedding-operations.json',
  },
  prometheusAlerts+:: std.parseYaml(importstr 'alerts/alerts.yaml'),
  prometheusRules+:: std.parseYaml(importstr 'rules/rules.yaml'),
}
