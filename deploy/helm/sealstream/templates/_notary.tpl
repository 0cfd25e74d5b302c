{{/* The notary's settings and files, and what is missing for it. */}}

{{/* The databases of the notary itself, for databaseSettings and databaseFiles. Takes the root. */}}
{{- define "sealstream.notaryDatabases" -}}
{{- with .Values.notary.database -}}
urls:
  DATABASE: {{ .reader | toJson }}
  NOTARY_DATABASE: {{ .notary | toJson }}
ca: {{ ternary .ca $.Values.database.ca (not (empty .ca.existingSecret)) | toJson }}
{{- end }}
{{- end }}

{{/* That of its migration. Takes the root. */}}
{{- define "sealstream.notaryOwnersDatabase" -}}
{{- with .Values.notary.database -}}
urls:
  NOTARY_DATABASE: {{ .owner | toJson }}
ca: {{ ternary .ca $.Values.database.ca (not (empty .ca.existingSecret)) | toJson }}
{{- end }}
{{- end }}

{{/* Takes the notary's values. */}}
{{- define "sealstream.notarySettings" -}}
{{- $directory := include "sealstream.secretDirectory" . -}}
- name: SEALSTREAM_LOG_KEY_FILE
  value: {{ $directory }}/log.key
{{ include "sealstream.mapSecretSettings" .mapSecret }}
{{- include "sealstream.documentSettings" . }}
{{ include "sealstream.storageSettings" .storage }}
{{- range $name, $value := .tuning }}
- name: SEALSTREAM_{{ snakecase $name | upper }}
  value: {{ include "sealstream.number" $value | quote }}
{{- end }}
{{- with .anchors }}
- name: SEALSTREAM_TIMESTAMP_SECONDS
  value: {{ include "sealstream.number" .seconds | quote }}
{{- with .timestamps.url }}
- name: SEALSTREAM_TIMESTAMP_URL
  value: {{ . | quote }}
{{- end }}
{{- if .lock.url }}
- name: SEALSTREAM_LOCK_STORAGE
  value: {{ .lock.url | quote }}
- name: SEALSTREAM_LOCK_DAYS
  value: {{ int64 .lock.days | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* Takes the root. */}}
{{- define "sealstream.notaryFiles" -}}
{{- with .Values.notary -}}
- secret:
    name: {{ .key.existingSecret }}
    items:
      - key: {{ .key.key }}
        path: log.key
{{ include "sealstream.mapSecretFiles" .mapSecret }}
{{ include "sealstream.documentFiles" (dict "root" $ "role" "notary") }}
{{- end }}
{{- end }}

{{/* Takes the root. */}}
{{- define "sealstream.notaryProblems" -}}
{{- $problems := list }}
{{- with .Values.notary }}
{{- if .enabled }}
{{- if not .key.existingSecret }}
{{- $problems = append $problems "notary.key.existingSecret is empty: name the Secret with the key that `sealstream keys new` wrote for this instance, or disable notary" }}
{{- end }}
{{- if not .mapSecret.existingSecret }}
{{- $problems = append $problems "notary.mapSecret.existingSecret is empty: name the Secret with the digits that `sealstream keys secret` wrote" }}
{{- end }}
{{- if not .policy }}
{{- $problems = append $problems "notary.policy is empty: who must cosign, as `sealstream keys policy` writes it" }}
{{- end }}
{{- if not .database.reader.existingSecret }}
{{- $problems = append $problems "notary.database.reader.existingSecret is empty: name the Secret with the URL of a login in the store that may read all tenants" }}
{{- end }}
{{- if not .database.notary.existingSecret }}
{{- $problems = append $problems "notary.database.notary.existingSecret is empty: name the Secret with the URL of the notary's login in a database of its own" }}
{{- end }}
{{- if and .migrateJob.enabled (not .database.owner.existingSecret) }}
{{- $problems = append $problems "notary.database.owner.existingSecret is empty: name the Secret with the URL of the owner of the notary's database, or disable notary.migrateJob" }}
{{- end }}
{{- if and .anchors.timestamps.url (not .anchors.timestamps.roots) }}
{{- $problems = append $problems "notary.anchors.timestamps.roots is empty: give the certificates that the authority's timestamps lead to" }}
{{- end }}
{{- end }}
{{- end }}
{{- toYaml $problems }}
{{- end }}
