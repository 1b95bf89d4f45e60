"""Payload codecs: pure functions from bytes to a `Report`, one wire format a file."""
