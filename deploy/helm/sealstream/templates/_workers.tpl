{{/*
One worker role as a StatefulSet: its pods keep their names, and a pod's host name is the worker id that its Kafka
transactions are fenced by. A Deployment would start a successor, under another name, before its predecessor has gone.
*/}}

{{/* Takes root, role, settings and files (both as text). */}}
{{- define "sealstream.worker" -}}
{{- $values := get .root.Values .role -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ include "sealstream.roleName" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "sealstream.labels" . | nindent 4 }}
spec:
  replicas: {{ int64 $values.replicas }}
  serviceName: {{ include "sealstream.roleName" . }}
  # Workers do not wait for one another: each takes its share of the partitions.
  podManagementPolicy: Parallel
  selector:
    matchLabels:
      {{- include "sealstream.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "sealstream.labels" . | nindent 8 }}
      {{- with $values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "sealstream.podBasics" . | nindent 6 }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - maxSkew: 1
          topologyKey: {{ $key }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "sealstream.selectorLabels" $ | nindent 14 }}
        {{- end }}
      containers:
        - {{ include "sealstream.containerBasics" (dict "root" .root "name" .role "args" (list .role)) | nindent 10 | trim }}
          env:
            {{- .settings | nindent 12 }}
            {{- include "sealstream.webSettings" .root | nindent 12 }}
          ports:
            - name: web
              containerPort: {{ int64 .root.Values.web.port }}
              protocol: TCP
          {{- include "sealstream.probes" . | nindent 10 }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            {{- include "sealstream.volumeMounts" . | nindent 12 }}
      volumes:
        {{- include "sealstream.volumes" . | nindent 8 }}
{{- end }}

{{/* Liveness never asks about Kafka or the database: a restart does not bring an absent broker back. */}}
{{- define "sealstream.probes" -}}
startupProbe:
  httpGet:
    path: /healthz
    port: web
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /healthz
    port: web
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: web
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}
