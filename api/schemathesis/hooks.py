"""What schemathesis cannot know: which books, codes and jobs there are, and the rules that no schema can say.

Only what was generated to be valid is touched, so a request that is meant to be refused stays as it is. What is put in
depends on the request alone: the same request is always changed the same way.
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
# How often a real thing takes the place of a made-up one.
REAL = 0.8
# Jobs that are asked for here are done here.
MAX_QUANTITY = 40

# How schemathesis names the parts of a request where we name them otherwise.
NAMES = {"path_parameters": "path", "headers": "header"}

# What ends logins.
ENDS_LOGINS = ("logout", "changePassword", "switchBusiness")
# What changes a book.
CHANGES = ("updateCouponBook", "replaceCouponBook", "deleteCouponBook")

logout_token = None


@schemathesis.auth()
class Credentials:
    """Those of the role; what ends logins ends another one."""

    def get(self, case, context):
        return SEED["headers"][ROLE]

    def set(self, case, data, context):
        case.headers = case.headers or {}
        case.headers.update(data)
        if "Authorization" in data and case.operation.definition.raw["operationId"] in ENDS_LOGINS:
            case.headers["Authorization"] = f"Bearer {token_to_end()}"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Puts real things in."""
    dice = random.Random(zlib.crc32(repr((case.operation.label, case.path_parameters, case.query, case.body)).encode()))
    valid = valid_parts(case)
    operation = case.operation.definition.raw["operationId"]
    if "path" in valid and case.path_parameters:
        if is_stateful(case):
            # The path leads to the result of an earlier step.
            replace_hidden_user(case.path_parameters)
        else:
            fill_path(operation, case.path_parameters, dice)
    if "query" in valid and case.query:
        fill_query(operation, case.query, dice)
    if case.body is NOT_SET and case.operation.body and "body" in valid:
        add_body(operation, case)
    if "body" in valid and isinstance(case.body, dict):
        fill_body(operation, case.body, dice)
        replace_hidden_user(case.body)
    if case.path_parameters and case.path_parameters.get("id") in SEED["callers"]:
        # Wherever the id was found: an ADMIN would disable those who ask, or take their keys.
        case.path_parameters["id"] = things(operation, "id")[0]
    if operation in CHANGES:
        spare_the_book(case, valid)
    if case.headers and "Idempotency-Key" in case.headers and "header" in valid:
        # A key belongs to one request: another one under it is refused.
        request = zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode())
        case.headers["Idempotency-Key"] = f"{case.headers['Idempotency-Key'][:240]}-{request:08x}"


def is_stateful(case):
    return case.meta is not None and case.meta.phase.name == TestPhase.STATEFUL


def valid_parts(case):
    """The parts of a request that were made to be valid."""
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
    """The things that a parameter of the path may stand for."""
    if name == "userId":
        return [SEED["user"]]
    if name == "code":
        return SEED["codes"]
    if name == "bookId":
        return [SEED["book"]]
    if operation in CHANGES:
        return SEED["spare_books"]
    kinds = {"CouponBook": "books", "Job": "jobs", "User": "accounts", "ApiKey": "api_keys"}
    return SEED[next(list for word, list in kinds.items() if word in operation)]


def add_body(operation, case):
    """A body need not be sent, but trusted callers must say for whom they ask, and who has no cookie sends the token."""
    if takes_user(operation) and ROLE in ("ADMIN", "SERVICE"):
        case.body, case.media_type = {"userId": SEED["user"]}, "application/json"
    elif operation == "refresh":
        case.body, case.media_type = {"refreshToken": session()["refreshToken"]}, "application/json"


def spare_the_book(case, valid):
    """The book that everything is about stays as it is; uses may only rise, and an end comes after its start."""
    if "body" not in valid or not isinstance(case.body, dict):
        return
    book = case.path_parameters.get("id")
    if book in SEED["books"]:
        case.body = {"name": "The same book"}
    elif book not in SEED["spare_books"]:
        case.body.pop("maxRedeemsPerUser", None)
    for field, time in (("startsAt", "2020-01-01T00:00:00Z"), ("expiresAt", "2090-01-01T00:00:00Z")):
        if isinstance(case.body.get(field), str):
            case.body[field] = time


def fill_query(operation, query, dice):
    if "cursor" in query:
        # Only a cursor that a list gave is one.
        cursor = SEED["cursors"].get(operation)
        if cursor and dice.random() < REAL:
            query["cursor"] = cursor
        else:
            del query["cursor"]
    if isinstance(query.get("couponBookId"), str) and dice.random() < REAL:
        query["couponBookId"] = SEED["book"]
    if isinstance(query.get("pattern"), str):
        query["pattern"] = possible(query["pattern"])


def fill_body(operation, body, dice):
    if isinstance(body.get("couponBookId"), str) and dice.random() < REAL:
        body["couponBookId"] = SEED["book"]
    if takes_user(operation):
        fill_user(operation, body, dice)
    if "metadata" in body:
        body["metadata"] = kept(body["metadata"])
    discount = body.get("discount")
    if isinstance(discount, dict) and isinstance(discount.get("value"), int):
        # A double holds every integer up to this; not all larger ones, and those are refused.
        discount["value"] = min(discount["value"], 2**53)
    if isinstance(body.get("lockId"), str) and dice.random() < REAL:
        body["lockId"] = SEED["lock"]
    if isinstance(body.get("quantity"), int):
        body["quantity"] = body["quantity"] % MAX_QUANTITY + 1
    if isinstance(body.get("pattern"), str):
        # Room enough for all the jobs of a run.
        body["pattern"] = possible(body["pattern"])[:120] if operation != "generateCodes" else roomy(body["pattern"])
    if "businessId" in body and body["businessId"] is not None:
        body["businessId"] = SEED["business"]
    if isinstance(body.get("startsAt"), str) and isinstance(body.get("expiresAt"), str):
        body["startsAt"], body["expiresAt"] = "2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z"
    if operation == "createCouponBook" and isinstance(body.get("expiresAt"), str):
        # A book cannot be created expired.
        body["expiresAt"] = "2090-01-01T00:00:00Z"
    if operation in ("createUser", "updateUser") and isinstance(body.get("password"), str):
        # Not every text that is long enough is a password.
        body["password"] = f"{zlib.crc32(body['password'].encode()):08x} {body['password']}"[:200]
    if operation == "createUser" and isinstance(body.get("email"), str) and dice.random() < REAL:
        body["email"] = f"{zlib.crc32(repr(body).encode()):08x}@example.com"
    if operation == "login" and dice.random() < REAL:
        body |= SEED["login"]
    if operation == "changePassword":
        # Whoever does not know the password is refused.
        body["currentPassword"] = body["newPassword"] = SEED["login"]["password"]
    if operation == "refresh" and (body.get("refreshToken") is None or dice.random() < REAL):
        body["refreshToken"] = session()["refreshToken"]
    if "file" in body and dice.random() < REAL:
        body["file"] = f"code\nUP-{dice.randrange(10**12)}\n"


def kept(value):
    """JSON whose integers fit 64 bits: others are refused, because they would be rounded. No schema says so at any depth."""
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
    """Trusted callers must name whom they act for, which the schema cannot say; a holder id is limited in bytes."""
    user = body.get("userId")
    if user is None and ROLE in ("ADMIN", "SERVICE") or user is not None and dice.random() < REAL:
        body["userId"] = SEED["user"]
    elif user is not None:
        body["userId"] = user.encode()[:128].decode(errors="ignore").strip() or SEED["user"]


def slots(pattern):
    """A pattern one slot at a time: each literal, and each symbol with braces of its own."""
    cut = []
    for part in re.findall(r"\{[^{}]*\}|[^{}]", pattern):
        cut.extend("{" + symbol + "}" for symbol in part.strip("{}")) if part.startswith("{") else cut.append(part)
    return cut


def possible(pattern):
    """Codes have 3 to 64 characters, and there are at most 2^127 of a pattern."""
    return "".join((slots(pattern) + ["{X}"] * 3)[:20])


def roomy(pattern):
    return "".join(slots(pattern)[:8]) + "{XXXXXXXX}"


def token_to_end():
    """A login that is there to be ended; another one once it is."""
    global logout_token
    if logout_token is None:
        logout_token = session()["accessToken"]
    return logout_token


def session():
    """A new login of one who has nothing else to do."""
    return requests.post(f"{SEED['base']}/api/v1/auth/login", json=SEED["login"], timeout=30).json()


@schemathesis.hook
def after_call(context, case, response):
    """Takes another login once the one to be ended is."""
    global logout_token
    if case.operation.definition.raw["operationId"] in ENDS_LOGINS and response.status_code == 401:
        logout_token = None
