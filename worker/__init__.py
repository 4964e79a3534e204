"""The worker: takes jobs from the queue, runs them on one device, and keeps what they make."""
