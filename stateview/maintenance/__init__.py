"""Checking a namespace, pruning its history, and measuring it."""
