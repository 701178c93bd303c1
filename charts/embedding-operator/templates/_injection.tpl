{{/* How pods are injected: policy or webhook. Refuses `policy` where the API server has none. */}}
{{- define "embedding-operator.injectedBy" -}}
{{- $serves := .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" }}
{{- if and (eq .Values.injection.by "policy") (not $serves) }}
{{- fail "injection.by: policy needs an API server with MutatingAdmissionPolicy of admissionregistration.k8s.io/v1 (Kubernetes 1.36): use auto or webhook, or give helm template --api-versions=admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" }}
{{- end }}
{{- eq .Values.injection.by "webhook" | or (not $serves) | ternary "webhook" "policy" }}
{{- end }}

{{/*
Not empty where the webhook is installed. A webhook that is there stays for the first upgrade to
`policy`, with an annotation, so that pods are injected until the operator has written what the policy
reads; the next upgrade removes it. `helm template` sees no cluster, and leaves it out.
*/}}
{{- define "embedding-operator.webhookIs" -}}
{{- if eq (include "embedding-operator.injectedBy" .) "webhook" }}injecting{{- else }}
{{- $live := lookup "admissionregistration.k8s.io/v1" "MutatingWebhookConfiguration" "" (include "embedding-operator.webhook" .) }}
{{- if and $live (not (hasKey ($live.metadata.annotations | default dict) "embedding.agenticverz.io/retiring")) }}retiring{{- end }}
{{- end }}
{{- end }}

{{- define "embedding-operator.injectedNamespaces" -}}
{{- if eq .Values.mode "namespaced" }}
# The operator cannot read labels of namespaces then: those that it watches are enabled.
matchExpressions:
  - {key: kubernetes.io/metadata.name, operator: In, values: {{ .Values.namespaces | uniq | toJson }}}
{{- else }}
matchLabels: {embedding.agenticverz.io/injection: enabled}
{{- end }}
{{- end }}

{{- define "embedding-operator.injectedPods" -}}
matchExpressions:
  - {key: embedding.agenticverz.io/injection, operator: NotIn, values: [disabled]}
  - {key: app.kubernetes.io/name, operator: NotIn, values: [{{ include "embedding-operator.chartName" . }}]}
{{- end }}
