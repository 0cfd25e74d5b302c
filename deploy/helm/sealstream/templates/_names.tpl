{{/* Names and labels, as `helm create` lays them out. */}}

{{- define "sealstream.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 42 | trimSuffix "-" }}
{{- end }}

{{/*
42 characters, because the longest suffix is "-processor" and a StatefulSet's name has 52: Kubernetes adds a hash to it
for a label of 63.
*/}}
{{- define "sealstream.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 42 | trimSuffix "-" }}
{{- else if contains (include "sealstream.name" .) .Release.Name }}
{{- .Release.Name | trunc 42 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "sealstream.name" .) | trunc 42 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "sealstream.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* What a selector may use: these never change during a release's life. Takes root and role. */}}
{{- define "sealstream.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sealstream.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{/* All labels of an object. Takes root and role. */}}
{{- define "sealstream.labels" -}}
{{ include "sealstream.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: sealstream
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ include "sealstream.chart" .root }}
{{- end }}

{{/* The name of one role's objects. Takes root and role. */}}
{{- define "sealstream.roleName" -}}
{{- printf "%s-%s" (include "sealstream.fullname" .root) .role }}
{{- end }}

{{/* The roles that others send requests to: they have a Service that balances, beside the one that names their pods. */}}
{{- define "sealstream.servers" -}}
gateway,witness
{{- end }}

{{/* The headless Service that names a role's pods and shows them to monitors. Takes root and role. */}}
{{- define "sealstream.headlessName" -}}
{{- include "sealstream.roleName" . }}
{{- if has .role (splitList "," (include "sealstream.servers" .root)) }}-headless{{ end }}
{{- end }}

{{- define "sealstream.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* The workers that are switched on, as a comma separated list. */}}
{{- define "sealstream.workers" -}}
{{- $enabled := list }}
{{- range $role := list "gateway" "relay" "processor" "sink" "verifier" "notary" "witness" }}
{{- if (get $.Values $role).enabled }}
{{- $enabled = append $enabled $role }}
{{- end }}
{{- end }}
{{- join "," $enabled }}
{{- end }}

{{/* A role's workload as kubectl takes it. Takes root and role. */}}
{{- define "sealstream.workload" -}}
{{- $nameless := or (eq .role "relay") (and (eq .role "gateway") (not .root.Values.gateway.spool.enabled)) }}
{{- ternary "deployment" "statefulset" $nameless }}/{{ include "sealstream.roleName" . }}
{{- end }}
