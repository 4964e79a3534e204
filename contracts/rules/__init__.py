"""Checks that gateways make to refuse early and workers rely on."""
