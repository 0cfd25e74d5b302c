{{/*
What values.schema.json cannot say: what is missing for the roles that are switched on, and what contradicts itself.
All of it in one message, so that nobody has to find the mistakes one installation at a time.
*/}}

{{- define "sealstream.check" -}}
{{- $problems := concat
  (include "sealstream.requiredProblems" . | fromYamlArray)
  (include "sealstream.kafkaProblems" . | fromYamlArray)
  (include "sealstream.gatewayProblems" . | fromYamlArray)
  (include "sealstream.relayProblems" . | fromYamlArray)
  (include "sealstream.notaryProblems" . | fromYamlArray)
  (include "sealstream.witnessProblems" . | fromYamlArray) }}
{{- if $problems }}
{{- fail (printf "\n\nThe values do not describe a release yet:\n  - %s\n" (join "\n  - " $problems)) }}
{{- end }}
{{- end }}

{{- define "sealstream.requiredProblems" -}}
{{- $problems := list }}
{{- with .Values }}
{{- if not .image.repository }}
{{- $problems = append $problems "image.repository is empty: name the repository you pushed the image to" }}
{{- end }}
{{- if not .instance }}
{{- $problems = append $problems "instance is empty: name this audit trail for good, such as audit.example.org/production" }}
{{- end }}
{{- if and (not .kafka.bootstrapServers) (include "sealstream.kafkaRoles" $) }}
{{- $problems = append $problems "kafka.bootstrapServers is empty: give host:port, comma separated" }}
{{- end }}
{{- if and .migrateJob.enabled (not .database.owner.existingSecret) }}
{{- $problems = append $problems "database.owner.existingSecret is empty: name the Secret with the owner's database URL, or disable migrateJob" }}
{{- end }}
{{- if and .sink.enabled (not .database.writer.existingSecret) }}
{{- $problems = append $problems "database.writer.existingSecret is empty: name the Secret with the writer's database URL, or disable sink" }}
{{- end }}
{{- if ne (empty .registry.username) (empty .registry.password.existingSecret) }}
{{- $problems = append $problems "registry has a user name or a password.existingSecret, and needs both or neither" }}
{{- end }}
{{- if and .registry.username (not .registry.url) }}
{{- $problems = append $problems "registry.username is set, and registry.url is empty" }}
{{- end }}
{{- end }}
{{- toYaml $problems }}
{{- end }}

{{- define "sealstream.kafkaProblems" -}}
{{- $problems := list }}
{{- $kafka := .Values.kafka }}
{{- $protocol := $kafka.securityProtocol }}
{{- $sasl := hasPrefix "SASL_" $protocol }}
{{- $tls := hasSuffix "SSL" $protocol }}
{{- if and $sasl (not $kafka.saslMechanism) }}
{{- $problems = append $problems (printf "kafka.saslMechanism is empty, and kafka.securityProtocol %s needs one" $protocol) }}
{{- end }}
{{- if and (not $sasl) $kafka.saslMechanism }}
{{- $problems = append $problems (printf "kafka.saslMechanism is set, and kafka.securityProtocol %s has none" $protocol) }}
{{- end }}
{{- if and (not $tls) $kafka.ca.existingSecret }}
{{- $problems = append $problems (printf "kafka.ca.existingSecret is set, and kafka.securityProtocol %s is not encrypted" $protocol) }}
{{- end }}
{{- range $role := compact (splitList "," (include "sealstream.kafkaRoles" .)) }}
{{- $values := get $.Values $role }}
{{- $where := ternary "kafka.credentials" (printf "%s.kafkaCredentials" $role) (empty $values.kafkaCredentials) }}
{{- $credentials := include "sealstream.credentials" (dict "root" $ "block" $values.kafkaCredentials) | fromYaml }}
{{- if and $sasl (not (and $credentials.username $credentials.passwordSecret)) }}
{{- $problems = append $problems (printf "%s needs username and password.existingSecret for kafka.securityProtocol %s" $where $protocol) }}
{{- end }}
{{- if and (not $sasl) (or $credentials.username $credentials.passwordSecret) }}
{{- $problems = append $problems (printf "%s has a user name or password that kafka.securityProtocol %s would not use" $where $protocol) }}
{{- end }}
{{- if and (not $tls) $credentials.certificateSecret }}
{{- $problems = append $problems (printf "%s has a certificate that kafka.securityProtocol %s would not use" $where $protocol) }}
{{- end }}
{{- end }}
{{- toYaml (uniq $problems) }}
{{- end }}

{{/* The roles that are switched on and speak to Kafka, as a comma separated list. Takes the root. */}}
{{- define "sealstream.kafkaRoles" -}}
{{- $roles := list }}
{{- range $role := list "gateway" "relay" "processor" "sink" "verifier" "notary" "topicsJob" }}
{{- if (get $.Values $role).enabled }}
{{- $roles = append $roles $role }}
{{- end }}
{{- end }}
{{- if and .Values.witness.enabled .Values.witness.recompute.enabled }}
{{- $roles = append $roles "witness" }}
{{- end }}
{{- join "," $roles }}
{{- end }}
