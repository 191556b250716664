"""The control plane: watches, reconciles, reports."""
