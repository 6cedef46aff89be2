"""Key bindings, type-ahead, signals."""
