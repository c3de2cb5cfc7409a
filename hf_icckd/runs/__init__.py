"""Folder of a run: checkpoints, records, provenance, summary."""
