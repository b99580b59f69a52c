"""Who may do what: pure decisions over keys, claims, tokens, subjects and policy. No I/O."""
