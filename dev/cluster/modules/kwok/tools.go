//go:build tools

// Package tools pins the module whose command is built.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
