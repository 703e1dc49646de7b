"""Tools: which may be called, what the models are told about them, and the calls in an answer."""
