{{- define "driftless-agent.labels" -}}
app.kubernetes.io/name: driftless-agent
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end -}}

{{- /* Never changes: a selector cannot be edited, so a change would break every upgrade. */ -}}
{{- define "driftless-agent.selector" -}}
app.kubernetes.io/name: driftless-agent
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "driftless-agent.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "driftless-agent.joinSecret" -}}
{{- if .Values.join.existingSecret -}}
{{ .Values.join.existingSecret }}
{{- else if .Values.join.token -}}
driftless-join
{{- end -}}
{{- end -}}

{{- define "driftless-agent.checks" -}}
{{- if ne .Release.Namespace "driftless-system" -}}
{{- fail "install this chart into the namespace driftless-system (--namespace driftless-system): the agent keeps its records there" -}}
{{- end -}}
{{- if and .Values.join.token .Values.join.existingSecret -}}
{{- fail "set join.token or join.existingSecret, not both: only one of them would be used" -}}
{{- end -}}
{{- if eq .Values.applier.name "driftless-agent" -}}
{{- fail "applier.name may not be driftless-agent: the agent's own account must not hold the applier's rights" -}}
{{- end -}}
{{- end -}}
