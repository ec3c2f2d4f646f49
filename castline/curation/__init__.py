"""Which face each label means, what is a duplicate, and which side of the split a photo is on."""
