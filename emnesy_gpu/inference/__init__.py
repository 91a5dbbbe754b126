"""What the posteriors of several problems share: results, weights, samples, chains, labels."""
