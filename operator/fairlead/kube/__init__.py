"""The few calls that Fairlead makes to the Kubernetes API server."""
