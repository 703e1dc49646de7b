"""An ensemble behind an address: an HTTP server that speaks OpenAI's protocol."""
