"""The dashboard: look at a state, walk its checkpoints, see what changed, and bring back what went wrong."""
