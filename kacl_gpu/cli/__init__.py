"""The command ``kacl-gpu``."""
