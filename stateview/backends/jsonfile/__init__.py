"""The JSON file backend."""
