{{- /*
Access to a repository as the start file has it. Takes an entry of `sources` or `credentials`; gives the same entry with
each Secret and ConfigMap replaced by the files it is mounted as.
*/ -}}
{{- define "driftless-hub.access" -}}
{{- $out := omit . "auth" "ca" "proxy" "clientCertificate" "verify" "keys" -}}
{{- with .auth -}}
{{- $auth := dict -}}
{{- with .basic -}}
{{- $_ := set $auth "basic" (dict "user" .user "passwordFile" (printf "/etc/driftless/secrets/%s/%s" .secret (.key | default "password"))) -}}
{{- end -}}
{{- with .bearer -}}
{{- $_ := set $auth "bearer" (dict "tokenFile" (printf "/etc/driftless/secrets/%s/%s" .secret (.key | default "bearerToken"))) -}}
{{- end -}}
{{- with .ssh -}}
{{- $folder := printf "/etc/driftless/secrets/%s" .secret -}}
{{- $identity := printf "%s/%s" $folder (.identityKey | default "identity") -}}
{{- $known := printf "%s/%s" $folder (.knownHostsKey | default "known_hosts") -}}
{{- $_ := set $auth "ssh" (dict "identityFile" $identity "knownHostsFile" $known) -}}
{{- end -}}
{{- $_ := set $out "auth" $auth -}}
{{- end -}}
{{- with .ca -}}
{{- $folder := ternary (printf "configmaps/%s" .configMap) (printf "secrets/%s" .secret) (hasKey . "configMap") -}}
{{- $_ := set $out "caFile" (printf "/etc/driftless/%s/%s" $folder (.key | default "ca.crt")) -}}
{{- end -}}
{{- with .proxy -}}
{{- $proxy := pick . "url" "user" -}}
{{- if .secret -}}
{{- $_ := set $proxy "passwordFile" (printf "/etc/driftless/secrets/%s/%s" .secret (.key | default "password")) -}}
{{- end -}}
{{- $_ := set $out "proxy" $proxy -}}
{{- end -}}
{{- with .clientCertificate -}}
{{- $folder := printf "/etc/driftless/secrets/%s" .secret -}}
{{- $certificate := printf "%s/%s" $folder (.certificateKey | default "tls.crt") -}}
{{- $_ := set $out "clientCertificate" (dict "certificateFile" $certificate "keyFile" (printf "%s/%s" $folder (.keyKey | default "tls.key"))) -}}
{{- end -}}
{{- with .verify -}}
{{- $_ := set $out "verify" (dict "mode" (.mode | default "HEAD") "keyFiles" (include "driftless-hub.keyFiles" .keys | fromJsonArray)) -}}
{{- end -}}
{{- with .keys -}}
{{- $_ := set $out "keyFiles" (include "driftless-hub.keyFiles" . | fromJsonArray) -}}
{{- end -}}
{{ $out | toJson }}
{{- end -}}

{{- /* The files that a list of {secret or configMap, key} is mounted as, as JSON. */ -}}
{{- define "driftless-hub.keyFiles" -}}
{{- $files := list -}}
{{- range . -}}
{{- $folder := ternary (printf "configmaps/%s" .configMap) (printf "secrets/%s" .secret) (hasKey . "configMap") -}}
{{- $files = append $files (printf "/etc/driftless/%s/%s" $folder .key) -}}
{{- end -}}
{{ $files | toJson }}
{{- end -}}

{{- /* What sources and credentials refer to: {secrets: [...], configMaps: [...]}, each name once, as JSON. */ -}}
{{- define "driftless-hub.references" -}}
{{- $secrets := list -}}
{{- $configMaps := list -}}
{{- range concat .Values.sources .Values.credentials .Values.trustedKeys -}}
{{- $auth := .auth | default dict -}}
{{- $verify := .verify | default dict -}}
{{- $keys := concat ($verify.keys | default list) (.keys | default list) -}}
{{- range $part := concat (list $auth.basic $auth.bearer $auth.ssh .ca .proxy .clientCertificate) $keys -}}
{{- with $part -}}
{{- with .secret }}{{ $secrets = append $secrets . }}{{ end -}}
{{- with .configMap }}{{ $configMaps = append $configMaps . }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{ dict "secrets" ($secrets | uniq | sortAlpha) "configMaps" ($configMaps | uniq | sortAlpha) | toJson }}
{{- end -}}

{{- /* The start file. */ -}}
{{- define "driftless-hub.config" -}}
{{- $store := dict "sqlite" "/var/lib/driftless/hub.db" -}}
{{- if eq .Values.store.kind "postgres" -}}
{{- $store = dict "postgresUrlFile" (printf "/etc/driftless/postgres/%s" .Values.store.postgres.key) -}}
{{- end -}}
{{- $sources := list -}}
{{- range .Values.sources }}{{ $sources = append $sources (include "driftless-hub.access" . | fromJson) }}{{ end -}}
{{- $credentials := list -}}
{{- range .Values.credentials }}{{ $credentials = append $credentials (include "driftless-hub.access" . | fromJson) }}{{ end -}}
{{- $trusted := list -}}
{{- range .Values.trustedKeys }}{{ $trusted = append $trusted (include "driftless-hub.access" . | fromJson) }}{{ end -}}
format: 1
keys: /etc/driftless/keys
mirrors: /var/lib/driftless/mirrors
store: {{- toYaml $store | nindent 2 }}
fleet:
  listen: {{ printf "%s:%d" .Values.bind (int .Values.fleet.port) | quote }}
  addresses: {{ include "driftless-hub.addresses" . }}
  serverName: {{ .Values.fleet.serverName | quote }}
  maxSessions: {{ int .Values.fleet.maxSessions }}
  renewExpiredDays: {{ int .Values.fleet.renewExpiredDays }}
admin:
  listen: {{ printf "%s:%d" .Values.bind (int .Values.admin.port) | quote }}
  names: {{ prepend .Values.admin.names (printf "driftless-hub-admin.%s.svc" .Release.Namespace) | toJson }}
renderWorkers: {{ int .Values.renderWorkers }}
{{- with $sources }}
sources: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $credentials }}
credentials: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $trusted }}
trustedKeys: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.clusters }}
clusters: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
