"""Handwritten digits: images, augmentation and the net that reads them."""
