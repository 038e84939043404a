"""schemathesis against the server's own OpenAPI document: no request breaks the server or gets an undocumented status.

Arguments behind the server's address are schemathesis's own. The requests are the same each time. Other tests check the form of answers: schemathesis does not read the data of a stream's events.
"""

import sys

from schemathesis.cli import schemathesis

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance"

schemathesis([
    "run", f"{sys.argv[1]}/openapi.json",
    "--seed", "1", "--max-examples", "50", "--checks", CHECKS, "--phases", "examples,coverage,fuzzing",
    # It would end the server.
    "--exclude-path", "/admin/drain",
    *sys.argv[2:],
])
