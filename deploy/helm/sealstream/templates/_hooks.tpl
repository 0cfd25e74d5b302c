{{/*
The Jobs that run before an installation and before each upgrade, as hooks: Helm starts the workers only when they have
succeeded, in the order of their weights. A hook that succeeded is deleted; one that failed stays for whoever looks, and
Helm prints its log.
*/}}

{{/* Takes weight. */}}
{{- define "sealstream.hookAnnotations" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
helm.sh/hook-output-log-policy: hook-failed
{{- end }}

{{/*
A Job and its ServiceAccount. Takes root, role, weight, args, settings and files (both as text) and values (the Job's
own values). The account is a hook of its own, because no other object of the chart exists before an installation.
*/}}
{{- define "sealstream.hookJob" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "sealstream.roleName" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "sealstream.labels" . | nindent 4 }}
  annotations:
    {{- include "sealstream.hookAnnotations" (dict "weight" "-10") | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "sealstream.roleName" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "sealstream.labels" . | nindent 4 }}
  annotations:
    {{- include "sealstream.hookAnnotations" . | nindent 4 }}
spec:
  backoffLimit: 3
  activeDeadlineSeconds: {{ int64 .values.deadlineSeconds }}
  template:
    metadata:
      labels:
        {{- include "sealstream.labels" . | nindent 8 }}
    spec:
      {{- include "sealstream.podBasics" . | nindent 6 }}
      restartPolicy: Never
      containers:
        - {{ include "sealstream.containerBasics" (dict "root" .root "name" .role "args" .args) | nindent 10 | trim }}
          env:
            {{- .settings | nindent 12 }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          volumeMounts:
            {{- include "sealstream.volumeMounts" . | nindent 12 }}
      volumes:
        {{- include "sealstream.volumes" . | nindent 8 }}
{{- end }}
