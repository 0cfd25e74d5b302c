{{/* The gateway's settings and files. */}}

{{/* Takes the root. */}}
{{- define "sealstream.gatewaySettings" -}}
{{- $directory := include "sealstream.secretDirectory" . }}
{{- $host := .Values.web.host }}
{{- with .Values.gateway -}}
- name: SEALSTREAM_GATEWAY_HOST
  value: {{ $host | quote }}
- name: SEALSTREAM_GATEWAY_PORT
  value: {{ int64 .port | quote }}
- name: SEALSTREAM_GATEWAY_SECRET_FILE
  value: {{ $directory }}/gateway-secret
{{- if .apiKeys.existingSecret }}
- name: SEALSTREAM_GATEWAY_KEYS
  value: {{ $directory }}/gateway-keys.json
{{- end }}
{{- with .tokens }}
{{- if .issuer }}
- name: SEALSTREAM_GATEWAY_ISSUER
  value: {{ .issuer | quote }}
- name: SEALSTREAM_GATEWAY_JWKS_URL
  value: {{ .jwksUrl | quote }}
- name: SEALSTREAM_GATEWAY_AUDIENCE
  value: {{ .audience | quote }}
- name: SEALSTREAM_GATEWAY_ALGORITHMS
  value: {{ join "," .algorithms | quote }}
- name: SEALSTREAM_GATEWAY_TENANT_CLAIM
  value: {{ .tenantClaim | quote }}
- name: SEALSTREAM_GATEWAY_SCOPE
  value: {{ .scope | quote }}
{{- end }}
{{- end }}
{{- range $name, $value := .limits }}
- name: SEALSTREAM_GATEWAY_{{ snakecase $name | upper }}
  value: {{ include "sealstream.number" $value | quote }}
{{- end }}
{{- if .spool.enabled }}
- name: SEALSTREAM_GATEWAY_SPOOL
  value: {{ include "sealstream.dataDirectory" $ }}/spool
{{- end }}
{{- end }}
{{- end }}

{{/* As sources of a projected volume. Takes the root. */}}
{{- define "sealstream.gatewayFiles" -}}
{{- with .Values.gateway -}}
- secret:
    name: {{ .secret.existingSecret }}
    items:
      - key: {{ .secret.key }}
        path: gateway-secret
{{- if .apiKeys.existingSecret }}
- secret:
    name: {{ .apiKeys.existingSecret }}
    items:
      - key: {{ .apiKeys.key }}
        path: gateway-keys.json
{{- end }}
{{- end }}
{{- end }}

{{/* Takes the root. */}}
{{- define "sealstream.gatewayProblems" -}}
{{- $problems := list }}
{{- $webPort := int64 .Values.web.port }}
{{- with .Values.gateway }}
{{- if .enabled }}
{{- if not .secret.existingSecret }}
{{- $problems = append $problems "gateway.secret.existingSecret is empty: name the Secret with the digits that `sealstream keys secret` writes, or disable gateway" }}
{{- end }}
{{- if not (or .apiKeys.existingSecret .tokens.issuer) }}
{{- $problems = append $problems "gateway knows nobody: name the Secret with API keys in gateway.apiKeys.existingSecret, or an issuer of tokens in gateway.tokens.issuer" }}
{{- end }}
{{- if eq (int64 .port) $webPort }}
{{- $problems = append $problems (printf "gateway.port is %d, and so is web.port, which is for health and metrics: choose another one" $webPort) }}
{{- end }}
{{- range $name := list "jwksUrl" "audience" }}
{{- if and $.Values.gateway.tokens.issuer (not (get $.Values.gateway.tokens $name)) }}
{{- $problems = append $problems (printf "gateway.tokens.%s is empty, and gateway.tokens.issuer needs it" $name) }}
{{- end }}
{{- end }}
{{- if and (not .tokens.issuer) (or .tokens.jwksUrl .tokens.audience .tokens.scope) }}
{{- $problems = append $problems "gateway.tokens.issuer is empty, so that gateway.tokens would have no effect: name the issuer, or empty the others" }}
{{- end }}
{{- end }}
{{- end }}
{{- toYaml $problems }}
{{- end }}
