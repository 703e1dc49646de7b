"""One request's plumbing: its deadline, its messages, its future, its stream."""
