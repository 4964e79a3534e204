"""Table 3: segmentation networks trained on the data set, on real images, and on one after the other."""
