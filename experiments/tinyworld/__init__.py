"""A procedural world whose truth is known: it trains the bundled model and judges the method."""
