"""What every connector needs from HTTP and TLS: auth, limits, retry, failures."""
