"""OpenTelemetry: spans and metrics of requests; imported only where tracing is on."""
