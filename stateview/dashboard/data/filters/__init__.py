"""The filters of the panes beside that of the keys, and the keys that match a word."""
