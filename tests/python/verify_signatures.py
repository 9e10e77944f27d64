"""A receiver that checks signatures with the official standardwebhooks package.

Reads a JSON list of {"secret", "headers", "body"} from stdin and writes a JSON list of verdicts, in the
same order: "accepted", or "refused: " and the package's reason.
"""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError


def verdict(message):
    try:
        Webhook(message["secret"]).verify(message["body"], message["headers"], json_parse=False)
    except WebhookVerificationError as error:
        return f"refused: {error}"
    return "accepted"


json.dump([verdict(message) for message in json.load(sys.stdin)], sys.stdout)
