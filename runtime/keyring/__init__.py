"""Keys where they are used: asked for from the control plane, unwrapped, and kept for a bounded time."""
