//go:build tools

// Package tools pins the module whose command is built.
package tools

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
)
