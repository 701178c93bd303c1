"""Refusals in OpenAI's error form, as the sidecar gives them: a client reads one form only."""

import math

import orjson
from starlette.responses import Response

JSON = "application/json"


class Refusal(Exception):  # noqa: N818 - it is an answer, and is raised on the way to it
    """An answer with this status; `param` names the field at fault, `code` the kind of error."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.retry_after_seconds = retry_after_seconds

    def response(self) -> Response:
        """The answer."""
        is_callers = self.status < 500  # noqa: PLR2004 - RFC 9110, section 15.5
        body = {
            "message": self.message,
            "type": "invalid_request_error" if is_callers else "server_error",
            "param": self.param,
            "code": self.code,
        }
        headers = {}
        if self.retry_after_seconds is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_seconds)))
        return Response(
            orjson.dumps({"error": body}), self.status, headers=headers, media_type=JSON
        )
