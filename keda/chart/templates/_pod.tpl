{{- /* The pod template of a worker. Takes (dict "root" $ "worker" ROW "pool" NAME); `spot` is the pool on spot nodes. */ -}}
{{- define "worker.pod" -}}
{{- $worker := .worker -}}
{{- $onSpot := and $worker.spot.enabled (eq .pool $worker.target) -}}
metadata:
  labels:
    {{- include "worker.selector" . | nindent 4 }}
    app.kubernetes.io/component: worker
    app.kubernetes.io/version: {{ $worker.image.tag | default "digest" | quote }}
    queue-exporter/worker: {{ $worker.name }}
  {{- with $worker.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with $worker.serviceAccountName }}
  serviceAccountName: {{ . }}
  {{- end }}
  automountServiceAccountToken: false
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $worker.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if eq $worker.kind "ScaledJob" }}
  restartPolicy: Never
  {{- end }}
  # time to end the jobs that it has taken
  terminationGracePeriodSeconds: {{ int (ternary $worker.spot.terminationGracePeriodSeconds $worker.terminationGracePeriodSeconds $onSpot) }}
  securityContext: {{- toYaml $worker.podSecurityContext | nindent 4 }}
  {{- if ne $worker.kind "ScaledJob" }}
  topologySpreadConstraints:
    # a zone that is lost takes its share only; a new version is spread by itself
    - topologyKey: topology.kubernetes.io/zone
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "worker.selector" . | nindent 10 }}
      matchLabelKeys: [pod-template-hash]
    - topologyKey: kubernetes.io/hostname
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "worker.selector" . | nindent 10 }}
      matchLabelKeys: [pod-template-hash]
  {{- end }}
  {{- with $worker.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $worker.spot.enabled }}
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms:
          - matchExpressions:
              - {key: {{ $worker.spot.label }}, operator: {{ ternary "In" "NotIn" $onSpot }}, values: [{{ $worker.spot.value | quote }}]}
  {{- else if $worker.affinity }}
  affinity: {{- toYaml $worker.affinity | nindent 4 }}
  {{- end }}
  {{- with ternary (concat $worker.tolerations $worker.spot.tolerations) $worker.tolerations $onSpot }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: worker
      image: {{ include "image" (dict "image" $worker.image "tag" "") }}
      imagePullPolicy: {{ $worker.image.pullPolicy }}
      {{- with $worker.command }}
      command: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $worker.args }}
      args: {{- toYaml . | nindent 8 }}
      {{- end }}
      env:
        - name: REDIS_URL
          valueFrom: {secretKeyRef: {name: {{ .root.Values.redis.secretName }}, key: {{ .root.Values.redis.secretKey }}}}
        {{- with $worker.env }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- with $worker.envFrom }}
      envFrom: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $worker.ports }}
      ports: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" }}
      {{- with get $worker $probe }}
      {{ $probe }}: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      resources: {{- toYaml $worker.resources | nindent 8 }}
      securityContext: {{- toYaml $worker.securityContext | nindent 8 }}
      {{- with $worker.volumeMounts }}
      volumeMounts: {{- toYaml . | nindent 8 }}
      {{- end }}
  {{- with $worker.volumes }}
  volumes: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- /* The Deployments of a worker: a YAML list of {name, replicas}, replicas 0 for the one that is scaled. */ -}}
{{- define "worker.pools" -}}
- {name: {{ .target }}, replicas: 0}
{{- if .floor }}
- {name: {{ .pool }}, replicas: {{ .floor }}}
{{- end }}
{{- end -}}
