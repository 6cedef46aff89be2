"""The dialogs of the dashboard: confirmations, menus, and input fields in front of a screen."""
