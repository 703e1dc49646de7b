"""How much each member counts, request by request."""
