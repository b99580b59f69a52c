"""The control plane: tenants, policies, credentials, deployments and hosts; answers `ai.admin.>`."""
