"""What travels over the API, a file for each part of it: bodies, and what comes back.

Times are ISO 8601 in UTC; values are in the metric's canonical unit.
"""
