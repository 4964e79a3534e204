"""From annotated images to tokens: training examples, losses, optimisation, token files."""
