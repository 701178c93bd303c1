//go:build tools

// Package tools pins the module whose CRD files are taken.
package tools

import _ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil"
