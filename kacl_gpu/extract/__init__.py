"""Compute features of whole folders into one table: ``kacl-gpu extract``."""

from .folder import Summary, extract, read_settings

__all__ = ["Summary", "extract", "read_settings"]
