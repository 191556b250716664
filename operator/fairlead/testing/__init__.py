"""Conformance suites that other connectors and stores can run."""
