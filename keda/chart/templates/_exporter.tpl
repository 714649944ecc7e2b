{{- /* QUEUES_FILE: a queue for each worker, named after it, with its policy; then those that are only watched. */ -}}
{{- define "exporter.queues" -}}
queues:
{{- range $worker := include "workers" . | fromYamlArray }}
  - queue: {{ printf "%s%sname=%s" $worker.queue (ternary "&" "?" (contains "?" $worker.queue)) $worker.name }}
    objective_age: {{ $worker.objectiveAge }}
    scale_up_depth: {{ int $worker.scaleUpDepth }}
    scale_down_depth: {{ int $worker.scaleDownDepth }}
    min_workers: {{ int $worker.minReplicas }}
    max_workers: {{ int $worker.maxReplicas }}
    worker_slots: {{ int $worker.slots }}
    {{- if and $worker.jobSeconds $worker.arrivalRate }}
    job_seconds: {{ $worker.jobSeconds }}
    {{- end }}
    {{- with $worker.catchUp }}
    catch_up: {{ . }}
    {{- end }}
    {{- if not $worker.arrivalRate }}
    arrival_rate: false
    {{- end }}
    {{- if not $worker.seesInFlight }}
    keep_busy: false
    {{- end }}
{{- end }}
{{- with .Values.exporter.queues }}
{{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "exporter.env" -}}
- {name: QUEUES_FILE, value: /etc/queue-exporter/queues.yaml}
- {name: REDIS_URL_FILE, value: /etc/queue-exporter/redis/{{ .Values.redis.secretKey }}}
{{- range $variable, $key := dict "REDIS_CA_FILE" "caKey" "REDIS_CERT_FILE" "certKey" "REDIS_KEY_FILE" "keyKey" }}
{{- with and $.Values.redis.tls.secretName (get $.Values.redis.tls $key) }}
- {name: {{ $variable }}, value: /etc/queue-exporter/tls/{{ . }}}
{{- end }}
{{- end }}
{{- if .Values.exporter.webConfig.secretName }}
{{- if eq "metrics-api" .Values.trigger }}
{{- fail "exporter.webConfig goes with trigger: prometheus or external-push; with metrics-api KEDA could not read the exporter" }}
{{- end }}
- {name: WEB_CONFIG_FILE, value: /etc/queue-exporter/web/web.yaml}
{{- end }}
{{- if eq "external-push" .Values.trigger }}
- {name: GRPC_ADDR, value: "0.0.0.0:9798"}
{{- with .Values.exporter.grpc.tls }}
{{- if .secretName }}
- {name: GRPC_CERT_FILE, value: /etc/queue-exporter/grpc/tls.crt}
- {name: GRPC_KEY_FILE, value: /etc/queue-exporter/grpc/tls.key}
{{- if .clientCa }}
- {name: GRPC_CLIENT_CA_FILE, value: /etc/queue-exporter/grpc/ca.crt}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.exporter.env }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end -}}
