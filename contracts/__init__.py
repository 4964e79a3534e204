"""What the gateway and the workers say to each other: requests, records, errors, keys, artifacts."""
