"""The service in the shapes that other programs expect."""
