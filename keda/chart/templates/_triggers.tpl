{{- /* A worker's triggers, and what goes with them in its ScaledObject. Takes (dict "root" $ "worker" ROW). */ -}}

{{- /* Takes "name", "query" and "threshold" as well. */ -}}
{{- define "trigger.prometheus" -}}
- type: prometheus
  name: {{ .name }}
  metricType: AverageValue
  metadata:
    serverAddress: {{ .root.Values.prometheus.address }}
    query: >-
      {{- .query | nindent 6 }}
    threshold: {{ .threshold | quote }}
    activationThreshold: "0"
    # an empty answer is a fault, not a 0: the number of workers is then held
    ignoreNullValues: "false"
    {{- with .root.Values.prometheus.authModes }}
    authModes: {{ . | quote }}
    {{- end }}
    {{- with .root.Values.prometheus.customHeaders }}
    customHeaders: {{ . | quote }}
    {{- end }}
  {{- with .root.Values.prometheus.authenticationRef }}
  authenticationRef: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "triggers.prometheus" -}}
{{ include "trigger.prometheus" (merge (dict "name" "backlog" "query" (include "query.backlog" .) "threshold" (int .worker.scaleUpDepth)) .) }}
{{ include "trigger.prometheus" (merge (dict "name" "keep" "query" (include "query.keep" .) "threshold" 1) .) }}
{{- if .worker.seesInFlight }}
{{ include "trigger.prometheus" (merge (dict "name" "in_flight" "query" (include "query.in_flight" .) "threshold" (int .worker.slots)) .) }}
{{- end }}
{{ include "trigger.prometheus" (merge (dict "name" "age" "query" (include "query.age" .) "threshold" .worker.objective) .) }}
{{- if and .worker.jobSeconds .worker.arrivalRate }}
{{ include "trigger.prometheus" (merge (dict "name" "rate" "query" (include "query.rate" .) "threshold" (int .worker.slots)) .) }}
{{- end }}
{{- end -}}

{{- /* Takes "metric", "name" and "target" as well. */ -}}
{{- define "trigger.metrics-api" -}}
- type: metrics-api
  name: {{ .name }}
  metricType: AverageValue
  metadata:
    url: {{ include "exporter.url" .root }}
    format: prometheus
    valueLocation: {{ printf "%s{queue=%q}" .metric .worker.name | quote }}
    targetValue: {{ .target | quote }}
{{- end -}}

{{- define "exporter.url" -}}
{{- .Values.exporter.url | default (printf "http://%s.%s.svc:%d/metrics" (include "name" .) .Release.Namespace (int .Values.exporter.service.port)) -}}
{{- end -}}

{{- /* The exporter works out the number of workers; the backlog by itself may add some before that is known. */ -}}
{{- define "triggers.metrics-api" -}}
{{ include "trigger.metrics-api" (merge (dict "name" "desired_workers" "metric" "redis_queue_desired_workers" "target" 1) .) }}
{{ include "trigger.metrics-api" (merge (dict "name" "backlog" "metric" "redis_queue_backlog" "target" (int .worker.scaleUpDepth)) .) }}
{{- end -}}

{{- /* Takes "type", "metric" and "target" as well. */ -}}
{{- define "trigger.external" -}}
- type: {{ .type }}
  name: {{ .metric }}
  metricType: AverageValue
  metadata:
    scalerAddress: {{ .root.Values.exporter.scalerAddress | default (printf "%s.%s.svc:%d" (include "name" .root) .root.Release.Namespace (int .root.Values.exporter.grpc.port)) }}
    queue: {{ .worker.name }}
    metric: {{ .metric }}
    {{- with .target }}
    target: {{ . | quote }}
    {{- end }}
    {{- with int (.worker.floor | default 0) }}
    floor: {{ . | quote }}
    {{- end }}
    {{- if .root.Values.exporter.grpc.tls.secretName }}
    enableTLS: "true"
    {{- end }}
  {{- with .root.Values.exporter.grpc.authenticationRef }}
  authenticationRef: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "triggers.external-push" -}}
{{ include "trigger.external" (merge (dict "type" "external-push" "metric" "desired_workers" "target" 0) .) }}
{{ include "trigger.external" (merge (dict "type" "external" "metric" "backlog" "target" 0) .) }}
{{- end -}}

{{- define "triggers.resource" -}}
{{- with .worker.cpuUtilization }}
- type: cpu
  name: cpu
  metricType: Utilization
  metadata:
    value: {{ . | toString | quote }}
{{- end }}
{{- with .worker.memoryUtilization }}
- type: memory
  name: memory
  metricType: Utilization
  metadata:
    value: {{ . | toString | quote }}
{{- end }}
{{- end -}}

{{- define "triggers.cron" -}}
{{- range $i, $peak := .worker.cron }}
- type: cron
  name: cron_{{ $i }}
  metadata:
    timezone: {{ $peak.timezone }}
    start: {{ $peak.start | quote }}
    end: {{ $peak.end | quote }}
    desiredReplicas: {{ sub (int $peak.replicas) $.worker.floor | max 1 | toString | quote }}
{{- end }}
{{- end -}}

{{- /* Annotations that hold replicas. */ -}}
{{- define "paused" -}}
{{- $paused := toString .worker.paused -}}
{{- if regexMatch "^[0-9]+$" $paused }}
autoscaling.keda.sh/paused-replicas: {{ $paused | quote }}
{{- else if eq $paused "all" }}
autoscaling.keda.sh/paused: "true"
{{- else if $paused }}
autoscaling.keda.sh/paused-{{ $paused }}: "true"
{{- end }}
{{- end -}}

{{- define "behavior" -}}
{{- $exact := eq "true" (include "exact" .) -}}
{{- range $direction := list "scaleUp" "scaleDown" }}
{{- $rule := get $.worker $direction }}
{{ $direction }}:
  stabilizationWindowSeconds: {{ int $rule.stabilizationWindowSeconds }}
  selectPolicy: Max
  policies: [{type: Percent, value: {{ int $rule.percent }}, periodSeconds: {{ int $rule.periodSeconds }}}]
  {{- if $exact }}
  tolerance: "0"
  {{- end }}
{{- end }}
{{- end -}}
