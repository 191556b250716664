"""What users declare: frozen types, loaded from and checked against the CRDs. No I/O libraries."""
