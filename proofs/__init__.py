"""What the service must withstand, proven with real processes: `make chaos`, `make fuzz`, `make load`, `make restore`."""
