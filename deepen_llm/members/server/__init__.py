"""Models behind a server of another library as members: what such a server tells of a step, asked for over HTTP.

The server holds the model. Each step sends a row's whole text as token ids and gets the most probable next tokens; the
server's prefix cache does what a cache of rows does here, so that taking tokens back costs nothing.
"""
