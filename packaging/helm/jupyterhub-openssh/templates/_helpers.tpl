{{/* The chart's name, for labels. */}}
{{- define "bastion.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* What names of resources begin with. */}}
{{- define "bastion.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := .Values.nameOverride | default .Chart.Name }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "bastion.secret" -}}
{{- .Values.existingSecret | default (printf "%s-openssh" (include "bastion.fullname" .)) }}
{{- end }}

{{- define "bastion.selectorLabels" -}}
app.kubernetes.io/name: {{ include "bastion.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "bastion.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "bastion.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* The claim with the homes; empty without one. */}}
{{- define "bastion.pvc" -}}
{{- if .Values.sftp.pvc.enabled }}{{ .Values.sftp.pvc.name }}{{ end }}
{{- end }}

{{/* The components that are installed, a word each. A door for files only needs files. */}}
{{- define "bastion.components" -}}
{{- if .Values.ssh.enabled }}ssh {{ end }}
{{- if and .Values.sftp.enabled (include "bastion.pvc" .) }}sftp{{ end }}
{{- end }}

{{/* config.toml. A value of TOML is written as the same value of JSON is: texts, numbers, booleans, lists. */}}
{{- define "bastion.config" -}}
{{- $hub := dict "url" (required "hubUrl must be set to the hub's address, as users open it in their browser" .Values.hubUrl) }}
{{- $config := dict "hub" $hub }}
{{- if include "bastion.pvc" . }}
{{- $_ := set $config "homes" (dict "root" "/srv/homes" "template" .Values.sftp.pvc.template) }}
{{- end }}
{{- if .Values.userNamespaces.enabled }}
{{- $_ := set $config "accounts" (dict "range" (list 20000 60000)) }}
{{- end }}
{{- if .Values.unprivileged.enabled }}
{{- if include "bastion.pvc" . }}{{ fail "unprivileged pods serve no homes: sftp.pvc.enabled must be false, or unprivileged.enabled" }}{{ end }}
{{- if .Values.serviceToken }}{{ fail "unprivileged pods have no logins by key: serviceToken must be empty, or unprivileged.enabled false" }}{{ end }}
{{- $_ := set $config "session" (dict "jail" "none") }}
{{- $_ := set $config "accounts" (dict "uid" "fixed" "fixed" (list (int .Values.unprivileged.uid) 100)) }}
{{- end }}
{{- if .Values.serviceToken }}
{{- $_ := set $config "keys" (dict "service_token_file" "/etc/jupyterhub-openssh/service-token") }}
{{- end }}
{{- $config = mergeOverwrite $config (deepCopy .Values.config) }}
{{- $shares := $config.shares | default list }}
{{- range $table, $keys := omit $config "shares" }}
[{{ $table }}]
{{- range $key, $value := $keys }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{ end }}
{{- range $share := $shares }}
[[shares]]
{{- range $key, $value := $share }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{ end }}
{{- end }}
