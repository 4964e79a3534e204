"""Methods whose masks come from a small network that was trained on a UNet's features."""
