{{/* The witness's settings and files, and what is missing for it. */}}

{{/* Takes the root. */}}
{{- define "sealstream.witnessSettings" -}}
{{- $directory := include "sealstream.secretDirectory" . }}
{{- $host := .Values.web.host }}
{{- with .Values.witness -}}
- name: SEALSTREAM_WITNESS_HOST
  value: {{ $host | quote }}
- name: SEALSTREAM_WITNESS_PORT
  value: {{ int64 .port | quote }}
- name: SEALSTREAM_WITNESS_PATH
  value: {{ include "sealstream.dataDirectory" $ }}/witness/witness.sqlite
- name: SEALSTREAM_WITNESS_KEY_FILE
  value: {{ $directory }}/witness.key
{{- include "sealstream.documentSettings" . }}
{{- if .recompute.enabled }}
{{ include "sealstream.kafkaSettings" (dict "root" $ "block" .kafkaCredentials) | trim }}
{{ include "sealstream.storageSettings" .recompute.storage }}
{{ include "sealstream.mapSecretSettings" .recompute.mapSecret }}
{{- end }}
{{- end }}
{{- end }}

{{/* Takes the root. */}}
{{- define "sealstream.witnessFiles" -}}
{{- with .Values.witness -}}
- secret:
    name: {{ .key.existingSecret }}
    items:
      - key: {{ .key.key }}
        path: witness.key
{{ include "sealstream.documentFiles" (dict "root" $ "role" "witness") }}
{{- if .recompute.enabled }}
{{ include "sealstream.kafkaFiles" (dict "root" $ "block" .kafkaCredentials) | trim }}
{{ include "sealstream.mapSecretFiles" .recompute.mapSecret }}
{{- end }}
{{- end }}
{{- end }}

{{/* The command. Takes the root. */}}
{{- define "sealstream.witnessArguments" -}}
{{- $arguments := list "witness" }}
{{- with .Values.witness }}
{{- if .recompute.enabled }}
{{- $arguments = append $arguments "--recompute" }}
{{- end }}
{{- if .begin.trustFirstUse }}
{{- $arguments = append $arguments "--trust-first-use" }}
{{- end }}
{{- if .begin.checkpoint }}
{{- $arguments = concat $arguments (list "--from-checkpoint" (printf "%s/checkpoint" (include "sealstream.secretDirectory" $))) }}
{{- end }}
{{- end }}
{{- toJson $arguments }}
{{- end }}

{{/* Takes the root. */}}
{{- define "sealstream.witnessProblems" -}}
{{- $problems := list }}
{{- $webPort := int64 .Values.web.port }}
{{- with .Values.witness }}
{{- if .enabled }}
{{- if not .key.existingSecret }}
{{- $problems = append $problems "witness.key.existingSecret is empty: name the Secret with the key that `sealstream keys new --role witness` writes, or disable witness" }}
{{- end }}
{{- if not .policy }}
{{- $problems = append $problems "witness.policy is empty: a line `log` with the verifier key of the log, and `quorum none`" }}
{{- end }}
{{- if eq (int64 .port) $webPort }}
{{- $problems = append $problems (printf "witness.port is %d, and so is web.port, which is for health and metrics: choose another one" $webPort) }}
{{- end }}
{{- if and .begin.trustFirstUse .begin.checkpoint }}
{{- $problems = append $problems "witness.begin has a checkpoint, and trusts what comes first: choose one" }}
{{- end }}
{{- if .recompute.enabled }}
{{- if not .recompute.storage.url }}
{{- $problems = append $problems "witness.recompute.storage.url is empty: name where the notary publishes, or disable witness.recompute" }}
{{- end }}
{{- if not .recompute.mapSecret.existingSecret }}
{{- $problems = append $problems "witness.recompute.mapSecret.existingSecret is empty: name the Secret with the notary's map secret, or disable witness.recompute" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- toYaml $problems }}
{{- end }}
