"""Data of the older layouts: one module reads each layout, and `adoption` turns it into commits."""
