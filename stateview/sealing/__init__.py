"""Encryption at rest, independent of where the sealed bytes are kept. It does no I/O."""
