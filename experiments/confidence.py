"""How sure is a mask? `python -m experiments.confidence` compares agreements with true masks, and fits the bundled model's calibration.

Truth is the annotator's, on generated images: all of them, those without the object, too (there the IoU is 0). The calibration is
fitted on tuning seeds; the diagram, `docs/method/confidence.svg`, shows reporting seeds alone.
"""
