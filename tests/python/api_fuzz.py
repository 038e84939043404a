"""schemathesis against the server's own OpenAPI document: no request breaks the server or gets an undocumented status.

Whole answers also have the documented form. Other tests check the events of streams, whose data schemathesis does not read.
Arguments behind the server's address are schemathesis's own. The requests are the same each time.
"""

import sys

import schemathesis
from schemathesis.cli import schemathesis as command

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,whole_answer_conformance"


@schemathesis.check
def whole_answer_conformance(context, response, case):
    if response.headers.get("content-type") != ["text/event-stream"]:
        case.operation.validate_response(response, case=case)


command([
    "run", f"{sys.argv[1]}/openapi.json",
    "--seed", "1", "--max-examples", "50", "--checks", CHECKS, "--phases", "examples,coverage,fuzzing",
    # It would end the server.
    "--exclude-path", "/admin/drain",
    *sys.argv[2:],
])
