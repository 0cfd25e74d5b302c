{{/*
One worker role as a StatefulSet: its pods keep their names, and a pod's host name is the worker id that its Kafka
transactions are fenced by. A Deployment would start a successor, under another name, before its predecessor has gone.
Roles that Kafka does not fence, and that keep nothing, may be one all the same.
*/}}

{{/*
Takes root, role, settings and files (both as text). Some roles add what is theirs: args (the command, where it is not
the role's name), ports (numbers by name), claim (a volume of each pod's own: name and volume, its values), checksum (of
a ConfigMap that is read at start), drainSeconds, and from (a Secret's name whose keys are variables).
*/}}
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
  serviceName: {{ include "sealstream.headlessName" . }}
  # Workers do not wait for one another: each takes its share of the partitions.
  podManagementPolicy: Parallel
  selector:
    matchLabels:
      {{- include "sealstream.selectorLabels" . | nindent 6 }}
  template:
    {{- include "sealstream.podTemplate" . | nindent 4 }}
  {{- with .claim }}
  # It stays when its pod goes, also after a smaller replicas or an uninstallation: a person removes it.
  volumeClaimTemplates:
    - apiVersion: v1
      kind: PersistentVolumeClaim
      metadata:
        name: {{ .name }}
      spec:
        accessModes: [{{ .volume.accessMode }}]
        {{- with .volume.storageClassName }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ .volume.size }}
  {{- end }}
{{- end }}

{{/* The same for a role whose processes are all alike: no name, no volume and no turn is theirs. Takes the same. */}}
{{- define "sealstream.nameless" -}}
{{- $values := get .root.Values .role -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "sealstream.roleName" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "sealstream.labels" . | nindent 4 }}
spec:
  replicas: {{ int64 $values.replicas }}
  selector:
    matchLabels:
      {{- include "sealstream.selectorLabels" . | nindent 6 }}
  template:
    {{- include "sealstream.podTemplate" . | nindent 4 }}
{{- end }}

{{/* The pods of a role. Takes what sealstream.worker takes. */}}
{{- define "sealstream.podTemplate" -}}
{{- $values := get .root.Values .role -}}
metadata:
  labels:
    {{- include "sealstream.labels" . | nindent 4 }}
  {{- if or $values.podAnnotations .checksum }}
  annotations:
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with .checksum }}
    checksum/config: {{ . }}
    {{- end }}
  {{- end }}
spec:
  {{- include "sealstream.podBasics" . | nindent 2 }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "sealstream.selectorLabels" $ | nindent 10 }}
    {{- end }}
  containers:
    - {{ include "sealstream.containerBasics" (dict "root" .root "name" .role "args" (default (list .role) .args)) | nindent 6 | trim }}
      env:
        {{- .settings | nindent 8 }}
        {{- include "sealstream.webSettings" .root | nindent 8 }}
      {{- with .from }}
      envFrom:
        - secretRef:
            name: {{ . }}
      {{- end }}
      ports:
        - name: web
          containerPort: {{ int64 .root.Values.web.port }}
          protocol: TCP
        {{- range $name, $port := .ports }}
        - name: {{ $name }}
          containerPort: {{ int64 $port }}
          protocol: TCP
        {{- end }}
      {{- include "sealstream.probes" . | nindent 6 }}
      {{- with .drainSeconds }}
      # Goes on serving until whoever balances the load has heard that this pod ends.
      lifecycle:
        preStop:
          sleep:
            seconds: {{ . }}
      {{- end }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      volumeMounts:
        {{- include "sealstream.volumeMounts" . | nindent 8 }}
  volumes:
    {{- include "sealstream.volumes" . | nindent 4 }}
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
