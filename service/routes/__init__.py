"""One module for each kind of thing that a client asks for."""
