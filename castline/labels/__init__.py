"""What people say about photos in Label Studio: the form they fill in, what they wrote, how far they agree."""
