"""The HTTP API: what people and other systems may ask and do, versioned, by role, with an audit trail.

`app` puts it together; each noun has a file. What a browser shows of it is in `headworks.console`.
"""
