{{/* The chart's name in labels; part of selectors, so a release keeps it. */}}
{{- define "embedding-operator.chartName" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* The name of objects: fullnameOverride, else the release's, with the chart's unless it has that already. */}}
{{- define "embedding-operator.name" -}}
{{- $chart := include "embedding-operator.chartName" . -}}
{{- $name := contains $chart .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $chart) -}}
{{ .Values.fullnameOverride | default $name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "embedding-operator.selector" -}}
app.kubernetes.io/name: {{ include "embedding-operator.chartName" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* app.kubernetes.io/managed-by is Helm here: the operator's own value marks objects of policies. */}}
{{- define "embedding-operator.labels" -}}
{{ include "embedding-operator.labelsWith" (dict "root" . "more" dict) }}
{{- end }}

{{/* The labels of an object with more of a value (`more`); each key once, the chart's own win. */}}
{{- define "embedding-operator.labelsWith" -}}
{{- $root := .root -}}
{{- $own := include "embedding-operator.selector" $root | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{ merge $own .more $root.Values.commonLabels | toYaml }}
{{- end }}

{{/* `annotations:` of an object, from commonAnnotations and `more`; nothing if there are none. */}}
{{- define "embedding-operator.annotations" -}}
{{- with merge (dict) (.more | default dict) .root.Values.commonAnnotations -}}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* repository:tag, repository@digest or, with both, repository:tag@digest. */}}
{{- define "embedding-operator.image" -}}
{{- $tag := .image.digest | empty | ternary (.image.tag | default .default) .image.tag -}}
{{ .image.repository }}{{ if $tag }}:{{ $tag }}{{ end }}{{ if .image.digest }}@{{ .image.digest }}{{ end }}
{{- end }}

{{- define "embedding-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "embedding-operator.name" .) }}
{{- else }}
{{- required "serviceAccount.name is needed by serviceAccount.create: false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* The namespaces to watch, separated by commas; empty for all of the cluster. */}}
{{- define "embedding-operator.watched" -}}
{{ if eq .Values.mode "namespaced" }}{{ join "," (.Values.namespaces | uniq) }}{{ end }}
{{- end }}

{{- define "embedding-operator.certificateSecret" -}}
{{ .Values.webhook.certificateSecret | default (printf "%s-webhook" (include "embedding-operator.name" .)) }}
{{- end }}

{{- define "embedding-operator.webhook" -}}
{{ printf "%s.%s.embedding.agenticverz.io" (include "embedding-operator.name" .) .Release.Namespace }}
{{- end }}

{{- define "embedding-operator.rolloutNamespaces" -}}
{{ if .Values.rollouts.enabled }}{{ join "," .Values.rollouts.namespaces | default (include "embedding-operator.watched" .) | default "*" }}{{ end }}
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

{{- define "embedding-operator.pullSecrets" -}}
{{- $names := list -}}
{{- range .Values.imagePullSecrets }}{{ $names = append $names .name }}{{ end -}}
{{ join "," ($names | uniq) }}
{{- end }}
