"""The dashboard's full screens."""
