"""X.509 certificates, TLS contexts and the sealed key store. Knows nothing of authz."""
