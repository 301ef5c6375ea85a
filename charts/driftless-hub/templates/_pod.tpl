{{- /* The pod of the StatefulSet and of the Deployment. */ -}}
{{- define "driftless-hub.pod" -}}
{{- $references := include "driftless-hub.references" . | fromJson -}}
metadata:
  labels:
    {{- include "driftless-hub.selector" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    # The hub reads its start file once: a change of it makes a new pod.
    driftless.dev/start-file: {{ include "driftless-hub.config" . | sha256sum | trunc 16 | quote }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: driftless-hub
  automountServiceAccountToken: false
  enableServiceLinks: false
  # Time to finish renders and writes; agents reconnect by themselves.
  terminationGracePeriodSeconds: 30
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  securityContext: {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: hub
      image: {{ include "driftless-hub.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - run
        - --config=/etc/driftless/config/hub.yaml
        - {{ printf "--log-level=%s" .Values.log.level | quote }}
        - --log-format={{ .Values.log.format }}
      {{- with .Values.extraEnv }}
      env: {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - { name: fleet, protocol: UDP, containerPort: {{ int .Values.fleet.port }} }
        - { name: admin, protocol: TCP, containerPort: {{ int .Values.admin.port }} }
      # There is no port without certificates, hence no health page: the kubelet opens and closes a connection to the
      # admin API, which listens when everything else does and ends with the process.
      startupProbe:
        tcpSocket: { port: admin }
        periodSeconds: 2
        # Migrations of a large database take their time.
        failureThreshold: 150
      livenessProbe:
        tcpSocket: { port: admin }
        periodSeconds: 20
        timeoutSeconds: 5
      readinessProbe:
        tcpSocket: { port: admin }
        periodSeconds: 5
        timeoutSeconds: 5
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      resources: {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - { name: config, mountPath: /etc/driftless/config, readOnly: true }
        - { name: keys, mountPath: /etc/driftless/keys, readOnly: true }
        - { name: data, mountPath: /var/lib/driftless }
        - { name: tmp, mountPath: /tmp }
        {{- if eq .Values.store.kind "postgres" }}
        - { name: postgres, mountPath: /etc/driftless/postgres, readOnly: true }
        {{- end }}
        {{- range $references.secrets }}
        - { name: {{ include "driftless-hub.volume" (list "secret" .) }}, mountPath: {{ printf "/etc/driftless/secrets/%s" . | quote }}, readOnly: true }
        {{- end }}
        {{- range $references.configMaps }}
        - { name: {{ include "driftless-hub.volume" (list "configmap" .) }}, mountPath: {{ printf "/etc/driftless/configmaps/%s" . | quote }}, readOnly: true }
        {{- end }}
  volumes:
    - name: config
      configMap: { name: driftless-hub }
    - name: keys
      secret:
        secretName: {{ .Values.keys.existingSecret | quote }}
        # Readable through fsGroup; the hub refuses keys that everybody can read.
        defaultMode: 0440
        # Named one by one, so that a root key left among them stays out of reach.
        items:
          {{- range list "signer.key" "ca.crt" "ca.key" "admin-ca.crt" "admin-ca.key" "quic-reset.key" "quic-token.key" "trust-1.json" }}
          - { key: {{ . }}, path: {{ . }} }
          {{- end }}
    - name: tmp
      emptyDir: { sizeLimit: 256Mi }
    {{- if eq .Values.store.kind "postgres" }}
    - name: postgres
      secret: { secretName: {{ .Values.store.postgres.secret | quote }}, defaultMode: 0440 }
    - name: data
      emptyDir: { sizeLimit: {{ .Values.store.postgres.mirrorsSize | quote }} }
    {{- else if .Values.store.volume.existingClaim }}
    - name: data
      persistentVolumeClaim: { claimName: {{ .Values.store.volume.existingClaim | quote }} }
    {{- end }}
    {{- range $references.secrets }}
    - name: {{ include "driftless-hub.volume" (list "secret" .) }}
      secret: { secretName: {{ . | quote }}, defaultMode: 0440 }
    {{- end }}
    {{- range $references.configMaps }}
    - name: {{ include "driftless-hub.volume" (list "configmap" .) }}
      configMap: { name: {{ . | quote }} }
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- /* A volume's name for (kind, object): names of objects can be longer than names of volumes, and have dots. */ -}}
{{- define "driftless-hub.volume" -}}
{{ index . 0 }}-{{ index . 1 | sha256sum | trunc 12 }}
{{- end -}}
