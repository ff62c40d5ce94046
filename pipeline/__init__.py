"""What the services agree on: contract, topics, settings, errors. Imports no service."""
