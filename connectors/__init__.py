"""Handlers that come with postlog: name them in HANDLERS, like any other."""
