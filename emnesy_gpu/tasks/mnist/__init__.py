"""Handwritten digits: images, their augmentation, and the training of the net that reads them."""
