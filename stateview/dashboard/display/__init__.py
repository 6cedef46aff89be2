"""Stored data as safe, styled text."""
