"""Wire messages, pure: what travels between callers, hosts and the control plane, and its strict reading."""
