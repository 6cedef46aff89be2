"""The table of all namespaces of a store."""
