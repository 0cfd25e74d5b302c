{{/*
What every pod of the chart has in common. No value reaches the security settings, so that the "restricted" PodSecurity
profile holds for every set of values.
*/}}

{{/* The first fields of a pod spec. Takes root and role. */}}
{{- define "sealstream.podBasics" -}}
serviceAccountName: {{ include "sealstream.roleName" . }}
# Nothing here talks to the Kubernetes API.
automountServiceAccountToken: false
# Kubernetes would add SEALSTREAM_..._SERVICE_HOST for each Service, and an unknown SEALSTREAM_ setting is an error.
enableServiceLinks: false
# A worker ends within nine seconds of the signal; a gateway gets it after five seconds in which it still serves.
terminationGracePeriodSeconds: 30
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  # Lets the process read the mounted Secrets, whose files belong to root and this group.
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* The first fields of a container. Takes root, name and args. */}}
{{- define "sealstream.containerBasics" -}}
name: {{ .name }}
image: {{ include "sealstream.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: [sealstream]
args: {{ .args | toJson }}
workingDir: {{ include "sealstream.dataDirectory" .root }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* Takes the root, files (the sources of the Secrets' volume, as text; empty for none) and claim, if there is one. */}}
{{- define "sealstream.volumeMounts" -}}
- name: temporary
  mountPath: /tmp
- name: data
  mountPath: {{ include "sealstream.dataDirectory" .root }}
{{- with .claim }}
- name: {{ .name }}
  mountPath: {{ include "sealstream.dataDirectory" $.root }}/{{ .name }}
{{- end }}
{{- if .files }}
- name: secrets
  mountPath: {{ include "sealstream.secretDirectory" .root }}
  readOnly: true
{{- end }}
{{- end }}

{{/* Takes files, as above. */}}
{{- define "sealstream.volumes" -}}
- name: temporary
  emptyDir:
    sizeLimit: 64Mi
# What a worker must not lose is in Kafka, in PostgreSQL, or on a volume claim of its own: this may go with the pod.
- name: data
  emptyDir:
    sizeLimit: 256Mi
{{- if .files }}
- name: secrets
  projected:
    # 0440 in octal, which not every YAML reader takes for octal.
    defaultMode: 288
    sources:
      {{- .files | nindent 6 }}
{{- end }}
{{- end }}
