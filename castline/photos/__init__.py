"""What comes in: batches, labels, safe decoding, rejects."""
