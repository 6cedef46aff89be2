"""The file formats of exports and imports."""
