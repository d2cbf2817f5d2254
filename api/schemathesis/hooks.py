"""Puts existing books, codes and jobs into the requests of schemathesis; applies rules that a schema cannot express.

Changes only the parts that were generated as valid, so a request that must be rejected is unchanged. The change is a
function of the request: the same request is always changed in the same way.
"""

import json
import os
import random
import re
import unicodedata
import zlib

import requests
import schemathesis
from schemathesis.core import NOT_SET
from schemathesis.generation.meta import TestPhase

SEED = json.load(open(os.environ["SCHEMATHESIS_SEED"], encoding="utf-8"))
ROLE = os.environ["SCHEMATHESIS_ROLE"]
# Probability that a generated id is replaced by an existing one.
REAL = 0.8
# Maximum size of a requested job: the server executes all jobs of the run.
MAX_QUANTITY = 40

# The names that schemathesis uses for parts of a request, where they differ from those used here.
NAMES = {"path_parameters": "path", "headers": "header"}

# Operations that end logins.
ENDS_LOGINS = ("logout", "changePassword", "switchBusiness")
# Operations that change a book.
CHANGES = ("updateCouponBook", "replaceCouponBook", "deleteCouponBook")

logout_token = None


@schemathesis.auth()
class Credentials:
    """The credentials of the role. Operations that end logins get a separate login."""

    def get(self, case, context):
        return SEED["headers"][ROLE]

    def set(self, case, data, context):
        case.headers = case.headers or {}
        case.headers.update(data)
        if "Authorization" in data and case.operation.definition.raw["operationId"] in ENDS_LOGINS:
            case.headers["Authorization"] = f"Bearer {token_to_end()}"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Puts existing ids into a request."""
    dice = random.Random(zlib.crc32(repr((case.operation.label, case.path_parameters, case.query, case.body)).encode()))
    valid = valid_parts(case)
    operation = case.operation.definition.raw["operationId"]
    if "path" in valid and case.path_parameters:
        if is_stateful(case):
            # The path has the result of an earlier step.
            replace_hidden_user(case.path_parameters)
        else:
            fill_path(operation, case.path_parameters, dice)
    if "query" in valid and case.query:
        fill_query(operation, case.query, dice)
    if case.body is NOT_SET and case.operation.body and "body" in valid:
        add_body(operation, case)
    if "body" in valid and isinstance(case.body, dict):
        fill_body(operation, case.body, dice)
        if operation in ("addPoolUsers", "removePoolUsers") and isinstance(case.body.get("userIds"), list):
            # The parameters describe a file. No pattern of the document excludes all hidden characters of user ids.
            case.query, case.body["userIds"] = {}, [SEED["user"], "eva"]
        elif operation == "addPoolUsers" and "file" in case.body:
            # Fields of the form come before the file.
            case.body = {"file": case.body["file"]}
        replace_hidden_user(case.body)
    if operation == "generateCodes" and isinstance(case.body, dict):
        # Also in a body that was generated as invalid: the server may accept it, such as a string that is a valid pattern.
        limit_quantity(case.body)
    if case.path_parameters and case.path_parameters.get("id") in SEED["callers"]:
        # From any source: an ADMIN would disable the callers of this run, or revoke their keys.
        case.path_parameters["id"] = things(operation, "id")[0]
    if operation in CHANGES:
        spare_the_book(case, valid)
    if operation == "getExportFile" and case.headers and "Range" in case.headers and "header" in valid:
        # The file has these bytes.
        case.headers["Range"] = "bytes=0-9"
    if case.headers and "Idempotency-Key" in case.headers and "header" in valid:
        # A key belongs to one request: a different request with it is rejected.
        request = zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode())
        case.headers["Idempotency-Key"] = f"{case.headers['Idempotency-Key'][:240]}-{request:08x}"


def is_stateful(case):
    return case.meta is not None and case.meta.phase.name == TestPhase.STATEFUL


def valid_parts(case):
    """The parts of a request that were generated as valid."""
    if case.meta is None or case.meta.generation.mode.is_positive:
        return {"path", "query", "header", "body"}
    return {NAMES.get(place.value, place.value) for place, part in case.meta.components.items() if part.mode.is_positive}


def fill_path(operation, path, dice):
    for name in path:
        if dice.random() < REAL:
            path[name] = dice.choice(things(operation, name))


def replace_hidden_user(fields):
    """No pattern of the document excludes all control and format characters inside a user id."""
    user = fields.get("userId")
    if isinstance(user, str) and any(unicodedata.category(character) in ("Cc", "Cf") for character in user):
        fields["userId"] = SEED["user"]


def things(operation, name):
    """The existing values of a path parameter."""
    if name == "userId":
        return [SEED["user"]]
    if name == "code":
        return SEED["codes"]
    if name == "deliveryId":
        return SEED["deliveries"]
    if name == "bookId":
        return [SEED["book"]]
    if operation in CHANGES:
        return SEED["spare_books"]
    if operation in ("updateUserPool", "deleteUserPool"):
        return SEED["spare_pools"]
    if "Distribution" in operation:
        return SEED["distributions"]
    if operation == "getExportFile":
        return SEED["exports"]
    if "Pool" in operation or operation == "distributeCodes":
        return SEED["pools"]
    if operation == "deleteWebhook":
        return SEED["spare_webhooks"]
    if "Webhook" in operation:
        return SEED["webhooks"]
    if "Redemption" in operation:
        return SEED["redemptions"]
    kinds = {"CouponBook": "books", "Job": "jobs", "User": "accounts", "ApiKey": "api_keys"}
    return SEED[next(list for word, list in kinds.items() if word in operation)]


def add_body(operation, case):
    """The body is optional, but trusted callers must name the user, and callers without the cookie send the token."""
    if takes_user(operation) and ROLE in ("ADMIN", "SERVICE"):
        case.body, case.media_type = {"userId": SEED["user"]}, "application/json"
    elif operation == "refresh":
        case.body, case.media_type = {"refreshToken": session()["refreshToken"]}, "application/json"


def spare_the_book(case, valid):
    """Does not change the main book; redemptions may only increase, the kind of codes is fixed, and an end is after its start."""
    if "body" not in valid or not isinstance(case.body, dict):
        return
    book = case.path_parameters.get("id")
    if book in SEED["books"]:
        case.body = {"name": "The same book"}
    elif book not in SEED["spare_books"]:
        case.body.pop("maxRedeemsPerUser", None)
        case.body.pop("codeKind", None)
    for field, time in (("startsAt", "2020-01-01T00:00:00Z"), ("expiresAt", "2090-01-01T00:00:00Z")):
        if isinstance(case.body.get(field), str):
            case.body[field] = time


def fill_query(operation, query, dice):
    if "cursor" in query:
        # Only cursors returned by a list are valid.
        cursor = SEED["cursors"].get(operation)
        if cursor and dice.random() < REAL:
            query["cursor"] = cursor
        else:
            del query["cursor"]
    if isinstance(query.get("couponBookId"), str) and dice.random() < REAL:
        query["couponBookId"] = SEED["book"]
    if isinstance(query.get("from"), str) and isinstance(query.get("to"), str):
        # A period ends after its start.
        query["from"], query["to"] = "2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z"
    if isinstance(query.get("pattern"), str):
        query["pattern"] = possible(query["pattern"])
    if "businessId" in query:
        query["businessId"] = SEED["business"]
    if isinstance(query.get("jobId"), str):
        # Only jobs that created codes are valid.
        query["jobId"] = SEED["jobs"][0]
    # A stream does not end.
    query.pop("follow", None)
    if operation == "listEvents":
        fill_event_filters(query)
    for start, end in (("from", "to"), ("assignedFrom", "assignedTo"), ("redeemedFrom", "redeemedTo")):
        if isinstance(query.get(start), str) and isinstance(query.get(end), str):
            query[start], query[end] = "2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z"
    if operation == "listCodes" and query.get("userId") is not None:
        # The cursor of a list of a user's codes has the time of the assignment.
        query.pop("cursor", None)


def fill_event_filters(query):
    """Only an ADMIN sees admin events, which have other actions than codes, and other filters."""
    if query.get("kind") == "ADMIN" and ROLE != "ADMIN":
        del query["kind"]
    is_admin = query.get("kind") == "ADMIN"
    for name in ("couponBookId", "userId") if is_admin else ("subject", "subjectId"):
        query.pop(name, None)
    if "action" in query:
        query["action"] = "CREATE" if is_admin else "LOCK"


def fill_body(operation, body, dice):
    if isinstance(body.get("couponBookId"), str) and dice.random() < REAL:
        body["couponBookId"] = SEED["book"]
    if takes_user(operation):
        fill_user(operation, body, dice)
    fill_limits(operation, body)
    if operation in ("voidCoupons", "voidCouponBook"):
        # The run needs its codes, and exactly one selection is valid.
        body["dryRun"] = True
        for name in [name for name in ("codes", "jobId", "filter") if body.get(name) is not None][1:]:
            del body[name]
        if isinstance(body.get("codes"), list):
            body["codes"] = SEED["codes"][:3]
        elif operation == "voidCoupons" and body.get("jobId") is None and body.get("filter") is None:
            body["codes"] = SEED["codes"][:3]
    if operation == "distributeCodes":
        # Exactly one amount is valid, and RANDOM needs the total.
        body.pop("codesPerUser", None)
        body["totalCodes"] = dice.randrange(3) + 1
    if operation in ("createWebhook", "updateWebhook"):
        # The schema has no rule for addresses, and `*` stands alone.
        if isinstance(body.get("url"), str):
            body["url"] = "https://receiver.example/hooks"
        if isinstance(body.get("eventTypes"), list):
            body["eventTypes"] = [kind for kind in body["eventTypes"] if kind != "*"] or ["*"]
        if "enabled" in body:
            # A disabled webhook rejects tests and replays.
            body["enabled"] = True
    if operation == "createExport":
        # A period ends after its start; a status and links are for codes.
        if isinstance(body.get("from"), str) and isinstance(body.get("to"), str):
            body["from"], body["to"] = "2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z"
        if body.get("kind") in ("REDEMPTIONS", "EVENTS"):
            body["status"], body["linkTemplate"] = None, None
        elif body.get("kind") == "ASSIGNMENTS" and body.get("status") == "AVAILABLE":
            body["status"] = "ASSIGNED"
    if "metadata" in body:
        body["metadata"] = kept(body["metadata"])
    discount = body.get("discount")
    if isinstance(discount, dict) and isinstance(discount.get("value"), int):
        # A double represents every integer up to this exactly. Larger integers that it would round are rejected.
        discount["value"] = min(discount["value"], 2**53)
    if isinstance(body.get("lockId"), str) and dice.random() < REAL:
        body["lockId"] = SEED["lock"]
    if isinstance(body.get("pattern"), str):
        # Enough codes for all jobs of a run.
        body["pattern"] = possible(body["pattern"])[:120] if operation != "generateCodes" else roomy(body["pattern"])
    if "businessId" in body and body["businessId"] is not None:
        body["businessId"] = SEED["business"]
    if isinstance(body.get("startsAt"), str) and isinstance(body.get("expiresAt"), str):
        body["startsAt"], body["expiresAt"] = "2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z"
    if operation == "createCouponBook" and isinstance(body.get("expiresAt"), str):
        # A book cannot be created expired.
        body["expiresAt"] = "2090-01-01T00:00:00Z"
    if operation in ("createUser", "updateUser") and isinstance(body.get("password"), str):
        # Not every text of the minimum length is a valid password.
        body["password"] = f"{zlib.crc32(body['password'].encode()):08x} {body['password']}"[:200]
    if operation == "createUser" and isinstance(body.get("email"), str) and dice.random() < REAL:
        body["email"] = f"{zlib.crc32(repr(body).encode()):08x}@example.com"
    if operation == "login" and dice.random() < REAL:
        body |= SEED["login"]
    if operation == "changePassword":
        # A wrong password is rejected.
        body["currentPassword"] = body["newPassword"] = SEED["login"]["password"]
    if operation == "refresh" and (body.get("refreshToken") is None or dice.random() < REAL):
        body["refreshToken"] = session()["refreshToken"]
    if "file" in body and dice.random() < REAL:
        body["file"] = f"code\nUP-{dice.randrange(10**12)}\n"
        if operation == "uploadAssignments":
            # A file without users is rejected.
            body["file"] = f"code,userId\n{dice.choice(SEED['codes'])},{SEED['user']}\n"


def fill_limits(operation, body):
    """Only codes of SHARED books have limits, and those books have no days of validity."""
    limits = ("maxRedemptions", "maxRedeemsPerUser", "startsAt", "expiresAt")
    if operation in ("generateCodes", "updateCoupon"):
        for name in limits:
            body.pop(name, None)
    if operation == "createCode":
        body["couponBookId"] = SEED["shared_book"]
        if isinstance(body.get("code"), str):
            body["code"] = f"NEW-{zlib.crc32(repr(body).encode()):08x}"
        if isinstance(body.get("expiresAt"), str):
            body["expiresAt"] = "2090-01-01T00:00:00Z"
        if isinstance(body.get("startsAt"), str):
            body["startsAt"] = "2020-01-01T00:00:00Z"
    if body.get("codeKind") == "SHARED":
        body.pop("codeValidDays", None)
    if operation == "unlockCoupon" and body.get("force"):
        # Of a code of a SHARED book a lock of any user is released by its id.
        body["lockId"] = SEED["lock"]


def limit_quantity(body):
    quantity = body.get("quantity")
    if isinstance(quantity, (int, float)) and quantity > MAX_QUANTITY:
        body["quantity"] = quantity % MAX_QUANTITY + 1


def kept(value):
    """JSON whose integers fit in 64 bits. Others are rejected, which a schema cannot express at any depth."""
    if isinstance(value, dict):
        return {name: kept(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [kept(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return value % 2**53
    return value


def takes_user(operation):
    return operation in (
        "assignRandom", "assignCode", "lockCoupon", "unlockCoupon", "redeemCoupon", "validateCoupon",
    )


def fill_user(operation, body, dice):
    """Trusted callers must name the user, which the schema cannot express; the limit of a holder id is in bytes."""
    user = body.get("userId")
    if user is None and ROLE in ("ADMIN", "SERVICE") or user is not None and dice.random() < REAL:
        body["userId"] = SEED["user"]
    elif user is not None:
        body["userId"] = user.encode()[:128].decode(errors="ignore").strip() or SEED["user"]


def slots(pattern):
    """Parses a pattern slot by slot: each literal, and each symbol with separate braces."""
    cut = []
    for part in re.findall(r"\{[^{}]*\}|[^{}]", pattern):
        cut.extend("{" + symbol + "}" for symbol in part.strip("{}")) if part.startswith("{") else cut.append(part)
    return cut


def possible(pattern):
    """Codes have 3 to 64 characters, and a pattern has at most 2^127 codes."""
    return "".join((slots(pattern) + ["{X}"] * 3)[:20])


def roomy(pattern):
    return "".join(slots(pattern)[:8]) + "{XXXXXXXX}"


def token_to_end():
    """A login that may be ended; a new one after it has ended."""
    global logout_token
    if logout_token is None:
        logout_token = session()["accessToken"]
    return logout_token


def session():
    """A new login of an account that the run does not use otherwise."""
    return requests.post(f"{SEED['base']}/api/v1/auth/login", json=SEED["login"], timeout=30).json()


@schemathesis.hook
def after_call(context, case, response):
    """Starts another login after the previous one has ended."""
    global logout_token
    if case.operation.definition.raw["operationId"] in ENDS_LOGINS and response.status_code == 401:
        logout_token = None
