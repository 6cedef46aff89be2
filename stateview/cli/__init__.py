"""The table of commands and the command line. The shell and the dashboard run the same commands."""
