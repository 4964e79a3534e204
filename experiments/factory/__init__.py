"""The data set of section 4.3: images of captions that contain a class, their pseudo-masks, and filters."""
