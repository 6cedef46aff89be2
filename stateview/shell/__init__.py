"""The shell: an interactive prompt (prompt_toolkit) and a script runner for the table of commands."""
