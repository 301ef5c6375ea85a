{{- define "driftless-hub.labels" -}}
app.kubernetes.io/name: driftless-hub
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end -}}

{{- /* Never changes: a selector cannot be edited, so a change would break every upgrade. */ -}}
{{- define "driftless-hub.selector" -}}
app.kubernetes.io/name: driftless-hub
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "driftless-hub.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "driftless-hub.workload" -}}
{{ ternary "StatefulSet" "Deployment" (eq .Values.store.kind "sqlite") }}
{{- end -}}

{{- /* As agents reach the hub; a JSON list. */ -}}
{{- define "driftless-hub.addresses" -}}
{{- $inside := printf "driftless-hub-agents.%s.svc:%d" .Release.Namespace (int .Values.fleet.port) -}}
{{ .Values.fleet.addresses | default (list $inside) | toJson }}
{{- end -}}

{{- define "driftless-hub.checks" -}}
{{- if and (eq .Values.store.kind "postgres") (not .Values.store.postgres.secret) -}}
{{- fail "store.kind is postgres, but store.postgres.secret does not name the Secret with the database's URL" -}}
{{- end -}}
{{- if and .Values.fleet.service.nodePort (ne .Values.fleet.service.type "NodePort") -}}
{{- fail (printf "fleet.service.nodePort is for type NodePort; the type is %s" .Values.fleet.service.type) -}}
{{- end -}}
{{- $names := list -}}
{{- range .Values.sources -}}
{{- $name := .name | default "flux-system/flux-system" -}}
{{- if has $name $names -}}
{{- fail (printf "sources: %s is there twice; give each a name of its own" $name) -}}
{{- end -}}
{{- $names = append $names $name -}}
{{- end -}}
{{- range $cluster, $settings := merge (dict "default" (.Values.clusters.default | default dict)) (.Values.clusters.named | default dict) -}}
{{- if and $settings.source (not (has $settings.source $names)) -}}
{{- fail (printf "clusters: %s names the source %s, which is not among sources" $cluster $settings.source) -}}
{{- end -}}
{{- end -}}
{{- end -}}
