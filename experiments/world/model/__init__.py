"""The bundled model: its autoencoder, UNet and text encoder, and their training."""
