{{/*
The settings of Sealstream as environment variables. Secrets are never among them: they are files, and a variable
ending in _FILE says where.
*/}}

{{/* A number as digits: Helm reads a large one from a file as 1e+06. */}}
{{- define "sealstream.number" -}}
{{- if eq (float64 (int64 .)) (float64 .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- define "sealstream.secretDirectory" -}}
/run/secrets/sealstream
{{- end }}

{{- define "sealstream.dataDirectory" -}}
/var/lib/sealstream
{{- end }}

{{/* The credentials of one role: its own block, or the shared one, whole. Takes root and block. */}}
{{- define "sealstream.credentials" -}}
{{- $chosen := ternary .root.Values.kafka.credentials .block (empty .block) }}
username: {{ dig "username" "" $chosen | quote }}
passwordSecret: {{ dig "password" "existingSecret" "" $chosen | quote }}
passwordKey: {{ dig "password" "key" "password" $chosen | quote }}
certificateSecret: {{ dig "certificate" "existingSecret" "" $chosen | quote }}
certificateKey: {{ dig "certificate" "certificateKey" "user.crt" $chosen | quote }}
privateKeyKey: {{ dig "certificate" "privateKeyKey" "user.key" $chosen | quote }}
{{- end }}

{{/* What every role has to agree on. Takes the root. */}}
{{- define "sealstream.sharedSettings" -}}
- name: SEALSTREAM_INSTANCE
  value: {{ .Values.instance | quote }}
- name: SEALSTREAM_PARTITIONS
  value: {{ int64 .Values.chain.partitions | quote }}
- name: SEALSTREAM_WINDOW_OFFSETS
  value: {{ int64 .Values.chain.windowOffsets | quote }}
- name: SEALSTREAM_WINDOW_SECONDS
  value: {{ int64 .Values.chain.windowSeconds | quote }}
- name: SEALSTREAM_OPERATORS
  value: {{ .Values.chain.operators | quote }}
- name: SEALSTREAM_TOPIC_PREFIX
  value: {{ .Values.topics.prefix | quote }}
- name: SEALSTREAM_EPOCH
  value: {{ int64 .Values.topics.epoch | quote }}
{{- with .Values.topics.replication }}
- name: SEALSTREAM_REPLICATION
  value: {{ int64 . | quote }}
{{- end }}
{{- range $name, $value := .Values.tuning }}
- name: SEALSTREAM_{{ snakecase $name | upper }}
  value: {{ include "sealstream.number" $value | quote }}
{{- end }}
- name: SEALSTREAM_LOG_LEVEL
  value: {{ .Values.logs.level | quote }}
- name: SEALSTREAM_LOG_FORMAT
  value: {{ .Values.logs.format | quote }}
- name: SEALSTREAM_DATA_DIRECTORY
  value: {{ include "sealstream.dataDirectory" . }}
{{- end }}

{{/* How to reach Kafka, and as whom. Takes root and block (the role's kafkaCredentials). */}}
{{- define "sealstream.kafkaSettings" -}}
{{- $directory := include "sealstream.secretDirectory" .root }}
{{- $credentials := include "sealstream.credentials" . | fromYaml }}
{{- with .root.Values.kafka }}
- name: SEALSTREAM_KAFKA
  value: {{ .bootstrapServers | quote }}
- name: SEALSTREAM_KAFKA_SECURITY_PROTOCOL
  value: {{ .securityProtocol | quote }}
{{- if .saslMechanism }}
- name: SEALSTREAM_KAFKA_SASL_MECHANISM
  value: {{ .saslMechanism | quote }}
- name: SEALSTREAM_KAFKA_USERNAME
  value: {{ $credentials.username | quote }}
- name: SEALSTREAM_KAFKA_PASSWORD_FILE
  value: {{ $directory }}/kafka-password
{{- end }}
{{- if .ca.existingSecret }}
- name: SEALSTREAM_KAFKA_CA_FILE
  value: {{ $directory }}/kafka-ca.crt
{{- end }}
{{- end }}
{{- if $credentials.certificateSecret }}
- name: SEALSTREAM_KAFKA_CERTIFICATE_FILE
  value: {{ $directory }}/kafka-client.crt
- name: SEALSTREAM_KAFKA_KEY_FILE
  value: {{ $directory }}/kafka-client.key
{{- end }}
{{- end }}

{{/* The file with a database's URL, by the setting that names the database. */}}
{{- define "sealstream.databaseFile" -}}
{{ . | lower | replace "_" "-" }}-url
{{- end }}

{{/* Where databases' URLs are. Takes urls (Secrets' names and keys, by setting) and ca (one for all of them). */}}
{{- define "sealstream.databaseSettings" -}}
{{- $directory := include "sealstream.secretDirectory" . }}
{{- range $setting, $url := .urls }}
- name: SEALSTREAM_{{ $setting }}_FILE
  value: {{ $directory }}/{{ include "sealstream.databaseFile" $setting }}
{{- end }}
{{- if .ca.existingSecret }}
- name: PGSSLMODE
  value: verify-full
- name: PGSSLROOTCERT
  value: {{ $directory }}/database-ca.crt
{{- end }}
{{- end }}

{{/* The schema registry, if there is one. Takes the root. */}}
{{- define "sealstream.registrySettings" -}}
{{- with .Values.registry }}
{{- if .url }}
- name: SEALSTREAM_REGISTRY
  value: {{ .url | quote }}
{{- if .username }}
- name: SEALSTREAM_REGISTRY_USERNAME
  value: {{ .username | quote }}
- name: SEALSTREAM_REGISTRY_PASSWORD_FILE
  value: {{ include "sealstream.secretDirectory" $ }}/registry-password
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where health, readiness and metrics are served. Takes the root. */}}
{{- define "sealstream.webSettings" -}}
- name: SEALSTREAM_WEB_HOST
  value: {{ .Values.web.host | quote }}
- name: SEALSTREAM_WEB_PORT
  value: {{ int64 .Values.web.port | quote }}
{{- end }}

{{/* The files for kafkaSettings, as sources of a projected volume. Takes root and block. */}}
{{- define "sealstream.kafkaFiles" -}}
{{- $credentials := include "sealstream.credentials" . | fromYaml }}
{{- with .root.Values.kafka }}
{{- if .saslMechanism }}
- secret:
    name: {{ $credentials.passwordSecret }}
    items:
      - key: {{ $credentials.passwordKey }}
        path: kafka-password
{{- end }}
{{- if .ca.existingSecret }}
- secret:
    name: {{ .ca.existingSecret }}
    items:
      - key: {{ .ca.key }}
        path: kafka-ca.crt
{{- end }}
{{- end }}
{{- if $credentials.certificateSecret }}
- secret:
    name: {{ $credentials.certificateSecret }}
    items:
      - key: {{ $credentials.certificateKey }}
        path: kafka-client.crt
      - key: {{ $credentials.privateKeyKey }}
        path: kafka-client.key
{{- end }}
{{- end }}

{{/* The file for registrySettings, as above. Takes the root. */}}
{{- define "sealstream.registryFiles" -}}
{{- with .Values.registry }}
{{- if .username }}
- secret:
    name: {{ .password.existingSecret }}
    items:
      - key: {{ .password.key }}
        path: registry-password
{{- end }}
{{- end }}
{{- end }}

{{/* The files for databaseSettings. Takes the same. */}}
{{- define "sealstream.databaseFiles" -}}
{{- range $setting, $url := .urls }}
- secret:
    name: {{ $url.existingSecret }}
    items:
      - key: {{ $url.key }}
        path: {{ include "sealstream.databaseFile" $setting }}
{{- end }}
{{- with .ca }}
{{- if .existingSecret }}
- secret:
    name: {{ .existingSecret }}
    items:
      - key: {{ .key }}
        path: database-ca.crt
{{- end }}
{{- end }}
{{- end }}
