"""Reading ahead: members are fed tokens that may come next, so that one pass of theirs serves several steps."""
