"""Checks: the rules that look at more than one value or resource, one small pure function each."""
