"""Environments: what an agent acts in, one per file."""
