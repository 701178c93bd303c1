{{- define "embedding-operator.name" -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "embedding-operator.selector" -}}
app.kubernetes.io/name: embedding-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* app.kubernetes.io/managed-by is Helm here: the operator's own value marks objects of policies. */}}
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
# Finds workloads that ask for restarts, and sets the annotations that restart them.
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
  verbs: [list, patch]
{{- end }}

{{- define "embedding-operator.vectorsNamespaces" -}}
{{- if .Values.vectors.enabled }}
{{- if not .Values.vectors.namespaces }}
{{- fail "vectors.namespaces is needed by vectors.enabled: name each namespace in which pods of indexes run" }}
{{- end }}
{{- join "," (.Values.vectors.namespaces | uniq) }}
{{- end }}
{{- end }}

{{- define "embedding-operator.monitored" -}}
{{ if or .Values.monitoring.prometheus .Values.monitoring.alertmanager }}true{{ end }}
{{- end }}

{{/* The file of MONITORING_FILE: servers, and the paths of their mounted credentials and CAs. */}}
{{- define "embedding-operator.monitoring" -}}
maxBodyMiB: {{ .Values.monitoring.maxBodyMiB }}
{{- range $kind := list "prometheus" "alertmanager" }}
{{ $kind }}:
{{- range $index, $server := index $.Values.monitoring $kind }}
{{- $folder := printf "/etc/embedding-operator/%s-%d" $kind $index }}
{{- if and (hasPrefix "http://" .url) (or .bearerSecret .basicAuthSecret .headersSecret) (not .allowInsecureHTTP) }}
{{- fail (printf "monitoring.%s[%d].url is http://, so credentials would travel in plain text: use https://, or set allowInsecureHTTP" $kind $index) }}
{{- end }}
  - url: {{ .url | quote }}
    allowInsecureHTTP: {{ .allowInsecureHTTP | default false }}
    {{- if .caConfigMap }}
    caFile: {{ $folder }}-ca/ca.crt
    {{- end }}
    {{- if .bearerSecret }}
    bearerFile: {{ $folder }}-auth/token
    {{- end }}
    {{- if .basicAuthSecret }}
    basicAuthDirectory: {{ $folder }}-auth
    {{- end }}
    {{- if .headersSecret }}
    headersDirectory: {{ $folder }}-headers
    {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "embedding-operator.monitoringVolumes" -}}
{{- if include "embedding-operator.monitored" . }}
- {name: monitoring, configMap: {name: {{ include "embedding-operator.name" . }}-monitoring}}
{{- end }}
{{- range $kind := list "prometheus" "alertmanager" }}
{{- range $index, $server := index $.Values.monitoring $kind }}
{{- if .caConfigMap }}
- {name: {{ $kind }}-{{ $index }}-ca, configMap: {name: {{ .caConfigMap }}}}
{{- end }}
{{- with .bearerSecret | default .basicAuthSecret }}
- {name: {{ $kind }}-{{ $index }}-auth, secret: {secretName: {{ . }}}}
{{- end }}
{{- if .headersSecret }}
- {name: {{ $kind }}-{{ $index }}-headers, secret: {secretName: {{ .headersSecret }}}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
