"""The command ``kacl-gpu``: `main` chooses a command; each command is a file with a function ``run``."""
