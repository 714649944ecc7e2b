{{- /*
What each trigger asks. Of each worker:

  backlog    jobs that wait, against scaleUpDepth: the HPA adds workers when there are more for each of them
  keep       the workers that scaleDownDepth keeps: as many as there are while each has so many jobs, else backlog / depth.
             The larger proposal wins in an HPA, so nothing is taken away between the two depths, whatever `backlog` says
  in_flight  busy slots, no more than there are: a busy worker is never scaled away, and jobs that a worker still ends while
             it goes away call for no new one
  age        how many times the objective the oldest job has waited, times the workers; no more than there are jobs
  rate       slots that the jobs that come in will keep busy, by their rate and the time that one takes

A worker with a floor (spot nodes) has workers that are not scaled: each query gives what is wanted beyond them.

An HPA does nothing while a ratio is within its tolerance, 10 % unless told otherwise. From Kubernetes 1.35 on the chart sets
it to 0. Elsewhere, and where CPU or memory are scaled on (their readings are noisy, and the tolerance is one for all), the
queries step over it: what is over a depth by less than 10 % is given as just over 10 %, and the same below.

A query is empty, and KEDA then holds, where the queue could not be read. 0 stands in for a number that can't be known only
where the exporter says that it did read the queue.
*/ -}}

{{- /* Whether the HPA is told a tolerance of 0. Takes (dict "root" $ "worker" ROW), as all below. */ -}}
{{- define "exact" -}}
{{- and (semverCompare ">=1.35.0-0" .root.Capabilities.KubeVersion.Version) (not (or .worker.cpuUtilization .worker.memoryUtilization)) -}}
{{- end -}}

{{- define "series" -}}
{{- $label := .root.Values.prometheus.namespaceLabel -}}
max({{ .metric }}{ {{- with $label }}{{ . }}="{{ $.root.Release.Namespace }}",{{ end }}queue="{{ .worker.name }}"})
{{- end -}}

{{- /* 0 where the queue was read. */ -}}
{{- define "zero" -}}
0 * {{ include "series" (merge (dict "metric" "redis_queue_up") .) | trimSuffix ")" }} == 1)
{{- end -}}

{{- define "replicas" -}}
{{- $label := .root.Values.prometheus.kubeStateMetricsNamespaceLabel -}}
max(kube_deployment_spec_replicas{ {{- with $label }}{{ . }}="{{ $.root.Release.Namespace }}",{{ end }}deployment="{{ .worker.target }}"})
{{- end -}}

{{- /* EXPRESSION less what the floor takes of it, and never under 0; takes "expression" and "less" as well. */ -}}
{{- define "beyond" -}}
{{- if .worker.floor }}clamp_min({{ .expression }} - {{ .less }}, 0){{ else }}{{ .expression }}{{ end -}}
{{- end -}}

{{- /* The smaller of two; empty where either is. */ -}}
{{- define "smaller" -}}
{{ .a }}
- clamp_min({{ .a }}
- {{ .b }}, 0)
{{- end -}}

{{- define "query.backlog" -}}
{{- $depth := int .worker.scaleUpDepth -}}
{{- $backlog := include "series" (merge (dict "metric" "redis_queue_backlog") .) -}}
{{- $backlog = include "beyond" (merge (dict "expression" $backlog "less" (mul $depth .worker.floor)) .) -}}
{{- if eq "true" (include "exact" .) }}{{ $backlog }}
{{- else -}}
{{- $n := include "replicas" . -}}
{{- $most := mulf $depth 1.1 | printf "%.10g" -}}
{{ $backlog }} > {{ $n }} * {{ $most }}
or ({{ $n }} * {{ $most }} + 0.01 and {{ $backlog }} > {{ $n }} * {{ $depth }})
or {{ $backlog }}
{{- end -}}
{{- end -}}

{{- define "query.keep" -}}
{{- $n := include "replicas" . -}}
{{- $kept := printf "floor(%s / %d)" (include "series" (merge (dict "metric" "redis_queue_backlog") .)) (int .worker.scaleDownDepth) -}}
{{- $kept = include "beyond" (merge (dict "expression" $kept "less" .worker.floor) .) -}}
{{- if ne "true" (include "exact" .) -}}
({{ $n }} * 0.9 - 0.01 and {{ $kept }} < {{ $n }} and {{ $kept }} >= {{ $n }} * 0.9)
or {{ end -}}
{{ include "smaller" (dict "a" $n "b" $kept) }}
{{- end -}}

{{- define "query.in_flight" -}}
{{- $busy := include "series" (merge (dict "metric" "redis_queue_in_flight") .) -}}
{{- $busy = include "beyond" (merge (dict "expression" $busy "less" (mul (int .worker.slots) .worker.floor)) .) -}}
{{- /* one worker at least: jobs of dead workers need one that takes them over */ -}}
{{- $there := printf "%d * clamp_min(%s, 1)" (int .worker.slots) (include "replicas" .) -}}
{{- include "smaller" (dict "a" $busy "b" $there) -}}
{{- end -}}

{{- define "query.age" -}}
{{- $age := include "series" (merge (dict "metric" "redis_queue_oldest_job_age_seconds") .) -}}
{{- $least := include "series" (merge (dict "metric" "redis_queue_oldest_job_age_at_least_seconds") .) -}}
{{- $less := mul .worker.objective .worker.floor -}}
{{- $workers := include "replicas" . -}}
{{- if .worker.floor }}{{ $workers = printf "(%s + %d)" $workers (int .worker.floor) }}{{ end -}}
{{- $late := printf "(%s or %s or %s) * %s" $age $least (include "zero" .) $workers -}}
{{- $late = include "beyond" (merge (dict "expression" $late "less" $less) .) -}}
{{- if .worker.seesInFlight -}}
{{- $jobs := printf "(%s + %s)" (include "series" (merge (dict "metric" "redis_queue_backlog") .)) (include "series" (merge (dict "metric" "redis_queue_in_flight") .)) -}}
{{- $most := printf "%s * %s" $jobs (divf .worker.objective .worker.slots | printf "%.10g") -}}
{{- $most = include "beyond" (merge (dict "expression" $most "less" $less) .) -}}
{{- include "smaller" (dict "a" $late "b" $most) -}}
{{- else }}{{ $late }}{{ end -}}
{{- end -}}

{{- /* Jobs a second times seconds a job: the slots that they keep busy (Little's law). */ -}}
{{- define "query.rate" -}}
{{- $busy := printf "(%s or %s) * %s" (include "series" (merge (dict "metric" "redis_queue_arrival_rate") .)) (include "zero" .) (.worker.jobSeconds | float64 | printf "%.10g") -}}
{{- include "beyond" (merge (dict "expression" $busy "less" (mul (int .worker.slots) .worker.floor)) .) -}}
{{- end -}}
