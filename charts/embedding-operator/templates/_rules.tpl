{{/* What the operator may do in each namespace that it watches. */}}
{{- define "embedding-operator.rules" -}}
- apiGroups: [embedding.agenticverz.io]
  resources: [embeddingpolicies, embeddingindexes]
  verbs: [list, watch]
- apiGroups: [embedding.agenticverz.io]
  resources: [embeddingpolicies/status, embeddingindexes/status]
  verbs: [patch]
# Owned objects: watched by label and as metadata only, and read by name.
- apiGroups: [""]
  resources: [configmaps, secrets]
  verbs: [get, list, watch, create, patch]
# Deletes a Secret whose entry was removed from its policy, or whose path is gone. ConfigMaps are
# never deleted: with the admission plugin OwnerReferencesPermissionEnforcement, as on OpenShift, the
# right to delete an object is needed to set its owner, and so to adopt it.
- apiGroups: [""]
  resources: [configmaps, secrets]
  verbs: [delete]
- apiGroups: [monitoring.coreos.com]
  resources: [prometheusrules, podmonitors]
  verbs: [get, list, watch, create, patch, delete]
# Counts pods with and without the sidecar; the patch makes kubelet sync their volumes.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods/status]
  verbs: [patch]
# What they leave for the sidecar of a new pod.
- apiGroups: [""]
  resources: [limitranges, resourcequotas]
  verbs: [list, watch]
{{- if .Values.sidecar.resize }}
# Changes cpu and memory of running sidecars.
- apiGroups: [""]
  resources: [pods/resize]
  verbs: [patch]
{{- end }}
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- if eq (include "embedding-operator.injectedBy" .) "policy" }}
# What the API server injects in a namespace.
- apiGroups: [embedding.agenticverz.io]
  resources: [embeddinginjections]
  verbs: [list, watch, create, patch, delete]
{{- end }}
{{- if and .Values.vault.address (eq .Values.vault.auth.method "kubernetes") }}
# The operator signs in to Vault as a ServiceAccount of the policy's namespace, with these names only.
- apiGroups: [""]
  resources: [serviceaccounts/token]
  verbs: [create]
  resourceNames: {{ prepend .Values.vault.serviceAccounts "embedding-vault" | uniq | toJson }}
{{- end }}
{{- end }}

{{/* What it needs of the cluster besides, in mode cluster. */}}
{{- define "embedding-operator.clusterRules" -}}
- apiGroups: [embedding.agenticverz.io]
  resources: [clusterembeddingproviders]
  verbs: [list, watch]
- apiGroups: [embedding.agenticverz.io]
  resources: [clusterembeddingproviders/status]
  verbs: [patch]
# Reads the labels by which a Prometheus selects these objects.
- apiGroups: [monitoring.coreos.com]
  resources: [prometheuses, prometheusagents, thanosrulers]
  verbs: [list]
# The injection label of namespaces; watched as metadata only. All labels of a namespace are read if
# a Prometheus selects namespaces by labels.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
{{- if include "embedding-operator.webhookIs" . }}
# kopf discovers the existing kinds before it answers reviews.
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  verbs: [list, watch]
{{- end }}
# Whose the definitions are, and the fields that they lack.
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  resourceNames:
    - embeddingpolicies.embedding.agenticverz.io
    - embeddingindexes.embedding.agenticverz.io
    - clusterembeddingproviders.embedding.agenticverz.io
    - embeddinginjections.embedding.agenticverz.io
  verbs: [get]
{{- if and (include "embedding-operator.webhookIs" .) (eq .Values.webhook.certificates "own") }}
- apiGroups: [admissionregistration.k8s.io]
  resources: [mutatingwebhookconfigurations]
  verbs: [get, patch]
  resourceNames: [{{ include "embedding-operator.webhook" . }}]
{{- end }}
{{- end }}
