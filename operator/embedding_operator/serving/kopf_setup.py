"""Settings of kopf, which runs the process and serves admission, and writes nothing.

The informers watch (docs/decisions/021).
"""

from typing import Final

import kopf

SERVER_SECONDS: Final = 300


def registry() -> kopf.OperatorRegistry:
    """A registry with the login handler."""
    made = kopf.OperatorRegistry()
    kopf.on.login(registry=made)(kopf.login_via_client)
    return made


def settings(*, sees_definitions: bool = True) -> kopf.OperatorSettings:
    """Settings without peering and events; kopf watches resource definitions only.

    Without `sees_definitions` it does not watch them either, which needs a right on the cluster.
    """
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.peering.standalone = True
    made.scanning.disabled = not sees_definitions
    made.watching.server_timeout = SERVER_SECONDS
    made.watching.client_timeout = SERVER_SECONDS + 10
    made.watching.connect_timeout = 10
    return made
