"""Istio's telemetry: workloads and their exchange in headers, and the standard metrics of HTTP and TCP."""
