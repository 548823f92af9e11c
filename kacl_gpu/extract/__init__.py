"""Features of whole folders into one table: ``kacl-gpu extract``."""
