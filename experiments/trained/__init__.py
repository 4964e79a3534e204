"""Training the networks of Grounded Diffusion and DatasetDM on a model of the world."""
