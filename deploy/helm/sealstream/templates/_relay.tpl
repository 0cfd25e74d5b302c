{{/* The relay's settings, and what is missing for it. */}}

{{/* Takes the relay's values. */}}
{{- define "sealstream.relaySettings" -}}
- name: SEALSTREAM_OUTBOX_TABLE
  value: {{ .table | quote }}
- name: SEALSTREAM_OUTBOX_KEEP
  value: {{ .keep | quote }}
{{- range $name, $value := .tuning }}
- name: SEALSTREAM_OUTBOX_{{ snakecase $name | upper }}
  value: {{ include "sealstream.number" $value | quote }}
{{- end }}
{{- end }}

{{/* Takes the root. */}}
{{- define "sealstream.relayProblems" -}}
{{- $problems := list }}
{{- with .Values.relay }}
{{- if and .enabled (not .database.url.existingSecret) }}
{{- $problems = append $problems "relay.database.url.existingSecret is empty: name the Secret with the URL of the application's database, or disable relay" }}
{{- end }}
{{- end }}
{{- toYaml $problems }}
{{- end }}
