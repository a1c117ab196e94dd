"""Serve a model: parse and validate requests, and limit their size and number."""
