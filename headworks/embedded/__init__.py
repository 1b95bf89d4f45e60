"""The life of the servers that the platform brings along: start, readiness, orderly stop, and nothing left behind.

What they are and where their programs come from is in `deploy.provision`.
"""

from headworks.embedded.broker import EmbeddedBroker
from headworks.embedded.postgres import EmbeddedPostgres
from headworks.embedded.process import EmbeddedServiceError

__all__ = ["EmbeddedBroker", "EmbeddedPostgres", "EmbeddedServiceError"]
