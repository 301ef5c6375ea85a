{{- define "driftless-agent.labels" -}}
app.kubernetes.io/name: driftless-agent
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "driftless-agent.selector" -}}
app.kubernetes.io/name: driftless-agent
app.kubernetes.io/instance: {{ .Release.Name }}
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
{{- end -}}
