"""What is shown, without widgets: key sources, diffs, JSON trees, watching."""
