"""The panes of the main screen: where each stands, and how a user moves their borders."""
