"""What kopf does for this operator: it runs the process and serves admission, and writes nothing.

All watches are the informers' (docs/decisions/021).
"""

from typing import Final

import kopf

SERVER_SECONDS: Final = 300


def registry() -> kopf.OperatorRegistry:
    """The handlers, in a registry of their own."""
    made = kopf.OperatorRegistry()
    kopf.on.login(registry=made)(kopf.login_via_client)
    return made


def settings() -> kopf.OperatorSettings:
    """How kopf runs: alone, and silent in the cluster. It watches definitions of resources only."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.peering.standalone = True
    made.watching.server_timeout = SERVER_SECONDS
    made.watching.client_timeout = SERVER_SECONDS + 10
    made.watching.connect_timeout = 10
    return made
