"""Webhooks: clients are told of their jobs by requests of ours."""
