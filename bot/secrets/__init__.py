"""Secrets: known by reference, and taken out of whatever leaves.

secret           one as plans know it: by its name
mask · shapes    the redaction; the forms that secrets come in
outlet           what this process writes to its terminal, masked
"""
