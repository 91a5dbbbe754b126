"""Inference that several problems share: results, weighted samples, chains, and posteriors given a label."""
