"""Export, import and migration."""
