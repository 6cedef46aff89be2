"""The shell: the table of commands at a prompt (prompt_toolkit), and line by line in scripts."""
