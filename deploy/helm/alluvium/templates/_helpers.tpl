{{- define "alluvium.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "alluvium.selector" -}}
app.kubernetes.io/name: alluvium
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "alluvium.labels" -}}
{{ include "alluvium.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "alluvium.account" -}}
{{- .Values.serviceAccount.name | default (include "alluvium.name" .) -}}
{{- end }}

{{- define "alluvium.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* The first pods by their names: the same list whatever the number of replicas. */ -}}
{{- define "alluvium.seeds" -}}
{{- $name := include "alluvium.name" . -}}
{{- $seeds := list -}}
{{- range $n := until (int (min .Values.seedCount .Values.replicas)) -}}
{{- $seeds = append $seeds (printf "%s-%d.%s-peers:7401" $name $n $name) -}}
{{- end -}}
{{- join "," $seeds -}}
{{- end }}
