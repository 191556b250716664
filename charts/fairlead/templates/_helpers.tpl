{{- define "fairlead.name" -}}
{{- if contains "fairlead" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-fairlead" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "fairlead.selector" -}}
app.kubernetes.io/name: fairlead
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "fairlead.labels" -}}
{{ include "fairlead.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "fairlead.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "fairlead.workerSettings" -}}
{{ dict "pullPolicy" .Values.image.pullPolicy "pullSecrets" .Values.image.pullSecrets "resources" .Values.worker.resources | toJson }}
{{- end }}

{{/* What the operator may do in each namespace that it serves. */}}
{{- define "fairlead.rules" -}}
# What people declare: read, and report about. Nothing of it is ever changed. `get syncpolicies` and
# `patch syncpolicies/status` are also what the operator hands on to each worker, for its own policy only.
- apiGroups: [fairlead.dev]
  resources: [connections, syncpolicies]
  verbs: [get, list, watch]
- apiGroups: [fairlead.dev]
  resources: [connections/status, syncpolicies/status]
  verbs: [patch]
# The Secrets that Connections name, one by one; without list or watch nobody can look around.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
# What runs a policy.
- apiGroups: [""]
  resources: [configmaps, persistentvolumeclaims, serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
