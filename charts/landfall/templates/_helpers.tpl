{{- define "landfall.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Room is left for "-controller" and a hash: names of Pods end up in labels of 63 characters. */}}
{{- define "landfall.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "landfall.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
What selects Pods, and what speakers find each other by: app.kubernetes.io/name is "landfall" whatever nameOverride says.
Takes (list context component).
*/}}
{{- define "landfall.selectorLabels" -}}
{{- $context := index . 0 -}}
app.kubernetes.io/name: landfall
app.kubernetes.io/instance: {{ $context.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Takes (list context component). */}}
{{- define "landfall.labels" -}}
{{- $context := index . 0 -}}
{{ include "landfall.selectorLabels" . }}
app.kubernetes.io/version: {{ $context.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $context.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $context.Chart.Name $context.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "landfall.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{/* Name of a component's ServiceAccount. Takes (list context component). */}}
{{- define "landfall.serviceAccountName" -}}
{{- $context := index . 0 -}}
{{- $component := index . 1 -}}
{{- $account := (index $context.Values $component).serviceAccount -}}
{{- if $account.create -}}
{{- default (printf "%s-%s" (include "landfall.fullname" $context) $component) $account.name -}}
{{- else -}}
{{- default "default" $account.name -}}
{{- end -}}
{{- end -}}

{{/* "true" where the controller serves webhooks, else empty. */}}
{{- define "landfall.webhooks" -}}
{{- if and .Values.controller.enabled (eq .Values.controller.webhookMode "enabled") -}}true{{- end -}}
{{- end -}}

{{/* An upgrade with --reuse-values from a version that knew no replicas brings none along. */}}
{{- define "landfall.controllerReplicas" -}}
{{- .Values.controller.replicas | default 2 -}}
{{- end -}}

{{/* The Lease on which controllers elect their leader: one for each release. */}}
{{- define "landfall.leaseName" -}}
{{- include "landfall.fullname" . -}}-controller
{{- end -}}

{{/* off, dry-run or on. YAML reads a bare on as true. An upgrade with --reuse-values from a version without it brings none along. */}}
{{- define "landfall.evictEndpoints" -}}
{{- $mode := (.Values.failover | default dict).evictEndpoints | default "off" | toString -}}
{{- if eq $mode "true" }}on{{ else if eq $mode "false" }}off{{ else }}{{ $mode }}{{ end -}}
{{- end -}}

{{/* The Secret with the key that speakers share; the controller makes it. */}}
{{- define "landfall.speakerKeySecret" -}}
{{- include "landfall.fullname" . -}}-speaker-key
{{- end -}}

{{/* Every probe: quick to say "ready", so that an installation that waits is over soon. Takes (dict "port" "host"). */}}
{{- define "landfall.probes" -}}
readinessProbe:
  httpGet:
    path: /readyz
    port: {{ .port }}
    {{- with .host }}
    host: {{ . }}
    {{- end }}
  initialDelaySeconds: 1
  periodSeconds: 2
  failureThreshold: 3
livenessProbe:
  httpGet:
    path: /healthz
    port: {{ .port }}
    {{- with .host }}
    host: {{ . }}
    {{- end }}
  initialDelaySeconds: 10
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 3
{{- end -}}

{{/* Where Pods run and with which priority. Takes the values of a component. */}}
{{- define "landfall.scheduling" -}}
nodeSelector:
  kubernetes.io/os: linux
  {{- with .nodeSelector }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end -}}
