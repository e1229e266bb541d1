{{- define "pico.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pico.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- define "pico.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: node
{{- end -}}

{{- define "pico.agentSelector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: agent
{{- end -}}

{{- define "pico.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{- define "pico.secretName" -}}
{{ default (include "pico.fullname" .) .Values.existingSecret }}
{{- end -}}

{{/* Whether the ports ask for tokens: "true" or nothing. */}}
{{- define "pico.auth" -}}
{{- if or (eq (toString .Values.auth) "true") (and (eq (toString .Values.auth) "auto") .Values.tokens) -}}true{{- end -}}
{{- end -}}

{{/* The configuration of the nodes: what the chart sets, and `config` over it. */}}
{{- define "pico.nodeConfig" -}}
{{- $base := dict
  "proxy" (dict "bind_addr" ":8000")
  "admin" (dict "bind_addr" ":8001")
  "upstream" (dict "bind_addr" ":8002")
  "cluster" (dict
    "name" (include "pico.fullname" .)
    "join" (list (printf "%s-nodes:8003" (include "pico.fullname" .)))
    "secret_files" (list "/etc/pico/secret/cluster-secret")
    "gossip" (dict "bind_addr" ":8003")) -}}
{{- if include "pico.auth" . -}}
{{- $auth := dict "tokens_file" "/etc/pico/secret/tokens" -}}
{{- $_ := set $base.admin "auth" $auth -}}
{{- $_ := set $base.upstream "auth" $auth -}}
{{- end -}}
{{- toYaml (mergeOverwrite $base (deepCopy .Values.config)) -}}
{{- end -}}

{{- define "pico.agentConfig" -}}
{{- $connect := dict "url" (list (printf "http://%s-upstream:%v" (include "pico.fullname" .) .Values.upstreamService.port)) -}}
{{- if .Values.agent.tokenSecret -}}
{{- $_ := set $connect "token_file" "/etc/pico/secret/token" -}}
{{- end -}}
{{- $base := dict "connect" $connect "listeners" .Values.agent.listeners -}}
{{- toYaml (mergeOverwrite $base (deepCopy .Values.agent.config)) -}}
{{- end -}}

{{/* What every container of the image may do: nothing but run. */}}
{{- define "pico.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "pico.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}
