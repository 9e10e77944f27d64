"""The providers' own packages, as senders that sign and as receivers that check.

Reads a JSON list of tasks from stdin and writes a JSON list of results, in the same order. A task says `do` (a name
below) and its arguments; a result is what was signed, or "accepted", or "refused".
"""

import base64
import json
import sys
from datetime import datetime, timezone

import stripe
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from retell.lib.webhook_auth import symmetric as retell
from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook as StandardWebhook
from svix.webhooks import Webhook as SvixWebhook
from svix.webhooks import WebhookVerificationError
from twilio.request_validator import RequestValidator


def at(seconds):
    return datetime.fromtimestamp(seconds, tz=timezone.utc)


def verdict(check, *errors):
    try:
        return "refused" if check() is False else "accepted"
    except errors:
        return "refused"


def sign_standard(task):
    return StandardWebhook(task["secret"]).sign(task["id"], at(task["seconds"]), task["body"])


def sign_svix(task):
    return SvixWebhook(task["secret"]).sign(task["id"], at(task["seconds"]), task["body"])


def sign_v1a(task):
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(task["seed"]))
    message = f"{task['id']}.{task['seconds']}.{task['body']}".encode()
    return "v1a," + base64.b64encode(key.sign(message)).decode()


def sign_stripe(task):
    return stripe.WebhookSignature.generate_signature_header(task["body"], task["secret"], task["seconds"])


def sign_slack(task):
    return SignatureVerifier(task["secret"]).generate_signature(timestamp=str(task["seconds"]), body=task["body"])


def sign_retell(task):
    return retell["sign"](task["body"], task["secret"], task["millis"])


def sign_twilio(task):
    return RequestValidator(task["secret"]).compute_signature(task["url"], task["form"], task.get("algorithm"))


def hash_twilio(task):
    return RequestValidator("any").compute_hash(task["body"])


def check_stripe(task):
    check = lambda: stripe.WebhookSignature.verify_header(task["body"], task["header"], task["secret"], 300)
    return verdict(check, stripe.SignatureVerificationError)


def check_svix(task):
    return verdict(lambda: SvixWebhook(task["secret"]).verify(task["body"], task["headers"]), WebhookVerificationError)


def check_v1a(task):
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(task["public"]))
    headers = task["headers"]
    message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{task['body']}".encode()
    signature = headers["webhook-signature"].removeprefix("v1a,")
    return verdict(lambda: key.verify(base64.b64decode(signature), message), InvalidSignature)


json.dump([globals()[task["do"]](task) for task in json.load(sys.stdin)], sys.stdout)
