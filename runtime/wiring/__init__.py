"""The composition root: the only place that joins authz, certs, the bus, the control plane and hosts."""
