{{- /* Names and labels. */ -}}

{{- define "name" -}}
{{- if contains "queue-exporter" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-queue-exporter" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end -}}

{{- /* Of every object. */ -}}
{{- define "labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: queue-exporter
{{- end -}}

{{- define "exporter.selector" -}}
app.kubernetes.io/name: queue-exporter
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* Of a worker: takes (dict "root" $ "worker" ROW "pool" NAME), with the name of one of its Deployments. */ -}}
{{- define "worker.selector" -}}
app.kubernetes.io/name: {{ .pool }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "worker.labels" -}}
{{ include "labels" .root }}
app.kubernetes.io/component: worker
queue-exporter/worker: {{ .worker.name }}
{{- end -}}

{{- /* Takes an `image` of the values and a default tag. */ -}}
{{- define "image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}
{{- else }}{{ .image.repository }}:{{ .image.tag | default .tag }}{{ end }}
{{- end -}}
