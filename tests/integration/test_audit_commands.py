"""`fairlead audit list`, `fairlead explain` and `fairlead undo`, as a person uses them on real systems."""

KEYS = {"encryptionKey": {"secretKeyRef": {"name": "sealing", "key": "keys"}}}
SECRET = "0123456789abcdef0123456789abcdef"
