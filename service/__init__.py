"""The gateway: HTTP in front of the queue. It checks, files and answers; it loads no model."""
