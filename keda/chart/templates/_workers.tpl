{{- /*
The table of workers, checked. Each row becomes what `workerDefaults` says with the row on top: maps such as `image` or `spot`
are filled up key by key, all else is replaced whole (Helm's own merge would drop a false, a 0 and an empty map).
Gives a YAML list; a row has also `name`, `pool` and `target` (its Deployment, and the one that is scaled), `floor` (workers beside it that are not),
`min` and `max` (of what is scaled), `objective` (seconds) and `seesInFlight`.
*/ -}}
{{- define "workers" -}}
{{- $rows := list -}}
{{- range $name, $given := .Values.workers -}}
{{- if $given -}}
{{- $row := deepCopy $.Values.workerDefaults -}}
{{- range $key, $value := $given -}}
{{- $default := get $row $key -}}
{{- if and (kindIs "map" $value) (kindIs "map" $default) (has $key (list "image" "scaleDown" "scaleUp" "spot" "job" "resources" "rollingUpdate" "price")) -}}
{{- range $inner, $set := $value -}}{{- $_ := set $default $inner $set -}}{{- end -}}
{{- else -}}
{{- $_ := set $row $key $value -}}
{{- end -}}
{{- end -}}
{{- if $row.enabled -}}
{{- $_ := set $row "name" $name -}}
{{- include "worker.check" (dict "row" $row "root" $) -}}
{{- include "worker.derive" $row -}}
{{- $rows = append $rows $row -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $rows -}}
{{- end -}}

{{- define "worker.derive" -}}
{{- $pool := .deploymentName | default (printf "%s-worker" .name) -}}
{{- $_ := set . "pool" $pool -}}
{{- $_ := set . "target" (ternary (printf "%s-spot" $pool) $pool .spot.enabled) -}}
{{- $_ := set . "floor" (ternary (int .minReplicas) 0 .spot.enabled) -}}
{{- $_ := set . "min" (sub (int .minReplicas) .floor) -}}
{{- $_ := set . "max" (sub (int .maxReplicas) .floor) -}}
{{- $_ := set . "objective" (include "seconds" .objectiveAge | int) -}}
{{- $_ := set . "seesInFlight" (eq "true" (include "worker.inFlight" .)) -}}
{{- end -}}

{{- /* 90s, 5m or 2h in seconds. */ -}}
{{- define "seconds" -}}
{{- $unit := get (dict "s" 1 "m" 60 "h" 3600) (. | trunc -1) -}}
{{- mul $unit (. | trimSuffix (. | trunc -1) | int) -}}
{{- end -}}

{{- define "worker.layout" -}}{{ .queue | splitList ":" | first }}{{- end -}}

{{- /* Whether the exporter can see the jobs in flight of this layout: held to the exporter's own table by a test. */ -}}
{{- define "worker.inFlight" -}}
{{- $layout := include "worker.layout" . -}}
{{- if ne (toString .inFlight) "auto" }}{{ .inFlight }}
{{- else if has $layout (list "list" "zset") }}{{ contains "in_flight=" .queue }}
{{- else }}{{ not (has $layout (list "huey" "taskiq")) }}{{ end -}}
{{- end -}}

{{- define "worker.fail" -}}
{{- fail (printf "worker %s: %s" .row.name .fault) -}}
{{- end -}}

{{- /* What no JSON schema can say: one line for each fault, with the remedy. */ -}}
{{- define "worker.check" -}}
{{- $row := .row -}}
{{- $min := int $row.minReplicas -}}{{- $max := int $row.maxReplicas -}}
{{- $up := int $row.scaleUpDepth -}}{{- $down := int $row.scaleDownDepth -}}
{{- $layout := include "worker.layout" $row -}}
{{- $layouts := list "apalis" "arq" "asynq" "bull" "bullmq" "celery" "dramatiq" "huey" "laravel" "list" "resque" "rq" "saq" "sidekiq" "stream" "taskiq" "zset" -}}
{{- if not (has $layout $layouts) -}}
{{- include "worker.fail" (dict "row" $row "fault" (printf "unknown layout %q in queue %q; it must be one of %s" $layout $row.queue (join ", " $layouts))) -}}
{{- end -}}
{{- if contains "*" $row.queue -}}
{{- include "worker.fail" (dict "row" $row "fault" (printf "queue %q is a pattern; name one queue (exporter.queues takes patterns)" $row.queue)) -}}
{{- end -}}
{{- if regexMatch "[?&]name=" $row.queue -}}
{{- include "worker.fail" (dict "row" $row "fault" "queue has an option name=; leave it out, for the queue is named after its worker") -}}
{{- end -}}
{{- if lt $max $min -}}
{{- include "worker.fail" (dict "row" $row "fault" (printf "maxReplicas %d is under minReplicas %d; raise the one or lower the other" $max $min)) -}}
{{- end -}}
{{- if gt (mul 2 $down) $up -}}
{{- include "worker.fail" (dict "row" $row "fault" (printf "scaleUpDepth %d is under twice scaleDownDepth %d; with less between them, workers would come and go by turns" $up $down)) -}}
{{- end -}}
{{- if eq 0 (include "seconds" $row.objectiveAge | int) -}}
{{- include "worker.fail" (dict "row" $row "fault" (printf "objectiveAge is %s; it must be over 0" $row.objectiveAge)) -}}
{{- end -}}
{{- if and (eq $row.kind "Deployment") $row.createDeployment (not $row.image.repository) -}}
{{- include "worker.fail" (dict "row" $row "fault" "image.repository is not set; set it, or createDeployment: false to scale a Deployment of your own") -}}
{{- end -}}
{{- if and (eq $row.kind "ScaledJob") (not $row.image.repository) -}}
{{- include "worker.fail" (dict "row" $row "fault" "image.repository is not set; a ScaledJob needs the image of its pods") -}}
{{- end -}}
{{- if and $row.image.repository (not $row.image.tag) (not $row.image.digest) -}}
{{- include "worker.fail" (dict "row" $row "fault" "image has neither tag nor digest; set one, so that all workers run the same version") -}}
{{- end -}}
{{- if and (eq $row.kind "ScaledJob") (or $row.cpuUtilization $row.memoryUtilization $row.cron) -}}
{{- include "worker.fail" (dict "row" $row "fault" "cpuUtilization, memoryUtilization and cron scale Deployments only; leave them out of a ScaledJob") -}}
{{- end -}}
{{- if and (eq $row.kind "ScaledJob") (not (has $row.paused (list "" "all"))) -}}
{{- include "worker.fail" (dict "row" $row "fault" (printf "paused is %v; a ScaledJob can only be paused as a whole, with all" $row.paused)) -}}
{{- end -}}
{{- if and $row.spot.enabled (or (ne $row.kind "Deployment") (not $row.createDeployment)) -}}
{{- include "worker.fail" (dict "row" $row "fault" "spot.enabled needs a Deployment that the chart makes; set spot.enabled to false") -}}
{{- end -}}
{{- if and $row.spot.enabled (eq "metrics-api" .root.Values.trigger) -}}
{{- include "worker.fail" (dict "row" $row "fault" "spot.enabled needs trigger: prometheus or external-push; with metrics-api KEDA can't take off what the floor does") -}}
{{- end -}}
{{- if and $row.spot.enabled (eq $min $max) -}}
{{- include "worker.fail" (dict "row" $row "fault" "spot.enabled with maxReplicas equal to minReplicas leaves nothing for spot nodes; raise maxReplicas") -}}
{{- end -}}
{{- $name := $row.deploymentName | default (printf "%s-worker" $row.name) -}}
{{- /* keda-hpa-NAME may have 63 characters. */ -}}
{{- if gt (len $name) 54 -}}
{{- include "worker.fail" (dict "row" $row "fault" (printf "%s has %d characters; a ScaledObject's name may have 54, so shorten it" $name (len $name))) -}}
{{- end -}}
{{- end -}}
