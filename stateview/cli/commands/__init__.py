"""The handlers of the commands. `cli.definition` names the handler of each command."""
