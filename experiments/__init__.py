"""The world with known truth, the bundled model made of it, and what is measured on them."""
