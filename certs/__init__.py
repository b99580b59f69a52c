"""X.509 certificates, TLS contexts and the sealed key store. Knows nothing of authz.

`authority` and `leaves` issue certificates, `contexts` builds TLS contexts, `masterkey` and `keystore` keep
secrets at rest, `atomicfile` and `privatefile` are how any secret file is written and read, `errors` is
what they raise. Nothing is imported here, so that a command that only reads a file does not pay for X.509.
"""
