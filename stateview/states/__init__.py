"""Reading, comparing and restoring states, written once over the backend protocol."""
