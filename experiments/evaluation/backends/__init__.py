"""Whoever makes images, learns tokens and measures: the library in process, or a service."""
