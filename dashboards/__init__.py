"""Grafana dashboards as code: queries, panels, and the JSON built from them (`python -m dashboards`).

Read only: a dashboard needs no more than the `headworks_reader` role. Nothing here talks to Grafana or the database.
"""

import warnings

# The SDK warns at import that its second schema is preferred. Only Grafana 12 and later reads that one, and files for
# provisioning are still written in the first, so the choice is deliberate and the warning would be noise.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import dashboard as _v1  # noqa: F401
    from grafana_foundation_sdk.builders import stat as _v2  # noqa: F401
