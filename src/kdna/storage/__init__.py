"""Named immutable bytes on some medium. Knows nothing of what they mean."""
