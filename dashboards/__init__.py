"""Grafana dashboards as code, and the JSON built from it."""
