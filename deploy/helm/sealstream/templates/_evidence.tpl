{{/*
What signs, cosigns and recomputes has in common: whom to believe, the map's secret, and where rounds are published.
Policies and records of rotations are public: they stand in the values, and in a ConfigMap of their role.
*/}}

{{/* The documents of a role, by file name. Takes the role's values. */}}
{{- define "sealstream.documents" -}}
policy: {{ .policy | quote }}
{{- with .rotations }}
rotations: {{ . | quote }}
{{- end }}
{{- with dig "anchors" "timestamps" "roots" "" . }}
timestamp-roots: {{ . | quote }}
{{- end }}
{{- with dig "begin" "checkpoint" "" . }}
checkpoint: {{ . | quote }}
{{- end }}
{{- end }}

{{/* The settings of those that are settings: the checkpoint is an option of the command. Takes the role's values. */}}
{{- define "sealstream.documentSettings" -}}
{{- $directory := include "sealstream.secretDirectory" . }}
{{- range $name := without (keys (include "sealstream.documents" . | fromYaml) | sortAlpha) "checkpoint" }}
- name: SEALSTREAM_{{ $name | upper | replace "-" "_" }}_FILE
  value: {{ $directory }}/{{ $name }}
{{- end }}
{{- end }}

{{/* The ConfigMap's files, as a source of a projected volume. Takes root and role. */}}
{{- define "sealstream.documentFiles" -}}
- configMap:
    name: {{ include "sealstream.roleName" . }}
    items:
      {{- range $name := keys (include "sealstream.documents" (get .root.Values .role) | fromYaml) | sortAlpha }}
      - key: {{ $name }}
        path: {{ $name }}
      {{- end }}
{{- end }}

{{/* Where rounds are published: a server, or the directory log. Takes a storage of the values. */}}
{{- define "sealstream.storageSettings" -}}
- name: SEALSTREAM_LOG_STORAGE
  value: {{ .url | default (printf "%s/log" (include "sealstream.dataDirectory" .)) | quote }}
{{- range $name, $value := .environment }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{/* Takes mapSecret. */}}
{{- define "sealstream.mapSecretSettings" -}}
- name: SEALSTREAM_MAP_SECRET_FILE
  value: {{ include "sealstream.secretDirectory" . }}/map-secret
{{- end }}

{{/* Takes mapSecret. */}}
{{- define "sealstream.mapSecretFiles" -}}
- secret:
    name: {{ .existingSecret }}
    items:
      - key: {{ .key }}
        path: map-secret
{{- end }}
