"""Label Studio's ML backend: predictions for its tasks, masks at points and boxes, tokens learned from annotations."""
