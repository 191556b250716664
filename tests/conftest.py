"""Fixtures that several folders of tests share."""

pytest_plugins = ["support.cluster", "support.operator", "support.postgres", "support.stores"]
