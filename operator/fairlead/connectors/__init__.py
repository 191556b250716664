"""How systems are read and written. `base` is the contract; everything else keeps it."""
