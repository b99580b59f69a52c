"""Runs deployments: follows the control plane, loads agents, serves their capabilities, drains them."""
