"""What the command line and the integrations stand on: sources, options and tools as frameworks give them."""
