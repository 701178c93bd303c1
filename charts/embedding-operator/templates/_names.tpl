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
