module driftless.dev/controlplane/flux-definitions

go 1.26.0

require (
	github.com/fluxcd/kustomize-controller v1.9.0
	github.com/fluxcd/source-controller v1.9.0
)
