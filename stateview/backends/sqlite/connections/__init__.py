"""Connections to a database file: how it is opened, shared, locked and checked."""
