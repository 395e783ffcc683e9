"""Whole paths, with real parts at every edge."""
