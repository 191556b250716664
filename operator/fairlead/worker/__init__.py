"""The data plane: read, decide, write, commit."""
