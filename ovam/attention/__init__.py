"""From a trace and a text to heatmaps: encoding, scores, aggregation, refinement by self-attention."""
