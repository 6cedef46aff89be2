"""JSON values: their diff, changes inside them, pointers, and text that a person typed. No I/O."""
