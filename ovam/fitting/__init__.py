"""Fitting masks to their image's edges with torch, many at a time."""
