"""What goes over HTTP and into records: requests, jobs, results, cards, errors."""
