"""How stored data becomes safe, styled text."""
