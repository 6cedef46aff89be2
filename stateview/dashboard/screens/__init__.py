"""The full screens of the dashboard."""
