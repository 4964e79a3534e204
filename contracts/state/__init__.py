"""What Redis and the artifact store hold: the ledger of jobs, the registry of tokens, artifacts."""
