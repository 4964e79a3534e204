"""The world of the bundled model: sprites of open art, scenes with exact masks, captions, and what is measured in it."""
