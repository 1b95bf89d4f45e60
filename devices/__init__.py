"""The domain: model, metric catalogue, profiles, codecs, normalisation.

Pure: no I/O beyond the profiles that ship inside this package, no asyncio, no clock. Imports nothing of ours.
"""
