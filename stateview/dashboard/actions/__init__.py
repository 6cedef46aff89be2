"""What the user does: commands, jobs, undo, editing."""
