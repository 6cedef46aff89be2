"""Key bindings, the key queue, and signal handlers."""
