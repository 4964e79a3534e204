"""Data sets: driven by gateways through generate and attribute jobs, filtered, and exported."""
