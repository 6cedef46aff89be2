"""The widgets that show and edit the value of a key."""
