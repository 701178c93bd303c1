{{- define "embedding-operator.name" -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "embedding-operator.selector" -}}
app.kubernetes.io/name: embedding-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* app.kubernetes.io/managed-by is Helm here: the operator's own value marks what policies own. */}}
{{- define "embedding-operator.labels" -}}
{{ include "embedding-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "embedding-operator.image" -}}
{{ .image.repository }}:{{ .image.tag | default .default }}
{{- end }}

{{- define "embedding-operator.certificateSecret" -}}
{{ .Values.webhook.certificateSecret | default (printf "%s-webhook" (include "embedding-operator.name" .)) }}
{{- end }}

{{- define "embedding-operator.webhook" -}}
{{ printf "%s.%s.embedding.agenticverz.io" (include "embedding-operator.name" .) .Release.Namespace }}
{{- end }}

{{- define "embedding-operator.rolloutNamespaces" -}}
{{ if .Values.rollouts.enabled }}{{ join "," .Values.rollouts.namespaces | default "*" }}{{ end }}
{{- end }}

{{- define "embedding-operator.rolloutRule" -}}
# Which workloads ask to be restarted; the annotations that do it.
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
  verbs: [list, patch]
{{- end }}
