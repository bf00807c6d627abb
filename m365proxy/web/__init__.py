"""The status port: page, health and metrics over HTTP, for reading only."""
