"""Starts a server on a new data folder, creates test data, and runs schemathesis as each role in turn.

    run.py CUPONERA SCHEMATHESIS WORK

CUPONERA and SCHEMATHESIS are the programs; WORK is a folder for temporary files. SCHEMATHESIS_EXAMPLES is the number of
requests for each operation in each phase, SCHEMATHESIS_ROLES the roles (NOBODY,USER,SERVICE,ADMIN).
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import requests

HERE = pathlib.Path(__file__).parent
PASSWORD = "a password for tests"
USER = "ana"
# More than all operations that assign free codes need.
CODES = 1000
SPARES = 25
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "10")
ROLES = os.environ.get("SCHEMATHESIS_ROLES", "NOBODY,USER,SERVICE,ADMIN").split(",")
PATIENCE_SECONDS = 120


class Server:
    """`cuponera up` with a separate folder, no rate limits, and access tokens that are valid longer than a run takes."""

    def __init__(self, program, work):
        data = work / "data"
        shutil.rmtree(data, ignore_errors=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CUPONERA_")}
        environment |= {f"CUPONERA_RATE_LIMIT_{who}": "none" for who in ("ANONYMOUS", "USER", "SERVICE", "ADMIN")}
        environment |= {
            "CUPONERA_HTTP_ADDR": "127.0.0.1:0",
            "CUPONERA_DATA_DIR": str(data),
            "CUPONERA_ADMIN_PASSWORD": PASSWORD,
            "CUPONERA_ACCESS_TOKEN_TTL": "24h",
            "CUPONERA_LOG": "warn",
        }
        self.log = open(work / "server.log", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            [program, "up"], env=environment, stdout=subprocess.PIPE, stderr=self.log, text=True, stdin=subprocess.DEVNULL
        )
        self.base = self.address()

    def address(self):
        for line in self.process.stdout:
            found = re.search(r"API +(http://\S+)/api/v1", line)
            if found:
                # The remaining output must be read, or the server blocks.
                threading.Thread(target=self.process.stdout.read, daemon=True).start()
                return found[1]
        sys.exit(f"the server ended instead of serving: see {self.log.name}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_SECONDS)
        self.log.close()
        if code != 0:
            sys.exit(f"the server ended with {code}: see {self.log.name}")


class Client:
    """A caller whose requests must succeed."""

    def __init__(self, base, headers=None):
        self.base, self.headers = base, headers or {}

    def ask(self, method, path, **options):
        answer = requests.request(method, f"{self.base}/api/v1/{path}", headers=self.headers, timeout=30, **options)
        if not answer.ok:
            sys.exit(f"rejected: {method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.text else None

    def post(self, path, body):
        return self.ask("POST", path, json=body)

    def login(self, email):
        return self.post("auth/login", {"email": email, "password": PASSWORD})

    def done(self, job):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.ask("GET", f"jobs/{job['id']}")["status"] in ("QUEUED", "RUNNING"):
            if time.monotonic() > deadline:
                sys.exit(f"the job {job['id']} does not end")
            time.sleep(0.05)
        return job["id"]


def prepare(base):
    """Creates data with which operations succeed; returns its ids and the credentials of each role."""
    nobody = Client(base)
    session = nobody.login("admin@example.com")
    admin = Client(base, {"Authorization": f"Bearer {session['accessToken']}"})
    user = {"email": "ana@example.com", "password": PASSWORD, "role": "USER", "userId": USER}
    callers = [admin.post("users", user)["id"]]
    to_end = {"email": "ending@example.com", "password": PASSWORD, "role": "USER", "userId": "ending"}
    callers.append(admin.post("users", to_end)["id"])
    key = admin.post("api-keys", {"name": "schemathesis"})
    callers += [key["id"], admin.ask("GET", "auth/me")["id"]]
    seed = {
        "base": base,
        "user": USER,
        "callers": callers,
        "business": admin.ask("GET", "auth/me")["businessId"],
        "login": {"email": to_end["email"], "password": PASSWORD},
        "accounts": [spare_account(admin, number) for number in range(SPARES)],
        "api_keys": [admin.post("api-keys", {"name": f"spare {number}"})["id"] for number in range(SPARES)],
    }
    seed |= books_and_codes(admin)
    seed["cursors"] = cursors(admin, seed)
    seed["headers"] = {
        "ADMIN": admin.headers,
        "SERVICE": {"X-API-Key": key["key"]},
        "USER": {"Authorization": f"Bearer {nobody.login(user['email'])['accessToken']}"},
        "NOBODY": {},
    }
    return seed


def spare_account(admin, number):
    account = {"email": f"spare{number}@example.com", "password": PASSWORD, "role": "USER"}
    return admin.post("users", account)["id"]


def active_book(admin, **rules):
    book = admin.post("coupon-books", {"name": "A book"} | rules)["id"]
    admin.ask("PATCH", f"coupon-books/{book}", json={"status": "ACTIVE"})
    return book


def books_and_codes(admin):
    """A book whose codes have all statuses, a BEARER book with free codes, a SHARED book, and other books to change and delete."""
    book = active_book(admin, maxRedeemsPerUser=1000)
    flyers = [f"FLYER-{number}" for number in range(SPARES)]
    admin.done(upload_file(admin, active_book(admin, codeKind="BEARER"), "".join(f"{code}\n" for code in flyers)))
    shared = active_book(admin, codeKind="SHARED", maxRedeemsPerUser=1000)
    public = [f"PUBLIC-{number}" for number in range(SPARES)]
    for code in public:
        admin.post("coupon-codes", {"couponBookId": shared, "code": code})
    wanted = {"couponBookId": book, "quantity": CODES, "pattern": "SEED-{XXXXXXXX}"}
    generation = admin.done(admin.post("coupon-codes/generate", wanted))
    file = "code,userId\nVIP-001,ana\nVIP-001,\nbad!,\n"
    upload = upload_file(admin, book, file)
    codes = [admin.post("assignments/random", {"couponBookId": book, "userId": USER})["code"] for _ in range(SPARES)]
    lock = admin.post(f"coupons/{codes[0]}/lock", {"userId": USER, "ttlSeconds": 86400})["lockId"]
    for code in codes[1:3]:
        admin.post(f"coupons/{code}/redeem", {"userId": USER})
    free = admin.ask("GET", f"coupon-codes/book/{book}?status=AVAILABLE&limit={SPARES}")["data"]
    return {
        "book": book,
        "shared_book": shared,
        "books": [book, active_book(admin, requireLock=True)],
        "spare_books": [admin.post("coupon-books", {"name": f"Spare {number}"})["id"] for number in range(SPARES)],
        "jobs": [generation, admin.done(upload), failed_job(admin, book)],
        "codes": codes + flyers + public + [code["code"] for code in free],
        "lock": lock,
        "redemptions": [redemption["id"] for redemption in admin.ask("GET", "redemptions")["data"]],
        "exports": [admin.done(admin.post("exports", {"kind": "CODES", "couponBookId": book}))],
    } | pools_and_distributions(admin, book) | webhooks(admin)


def pools_and_distributions(admin, book):
    """Pools with users, pools to delete, and the job of a distribution."""
    pools = [admin.post("user-pools", {"name": f"Pool {number}"})["id"] for number in range(2)]
    for pool in pools:
        admin.ask("POST", f"user-pools/{pool}/users", json={"userIds": [USER, "eva"]})
    wanted = {"couponBookId": book, "mode": "EQUAL", "codesPerUser": 1}
    return {
        "pools": pools,
        "spare_pools": [admin.post("user-pools", {"name": f"Spare {number}"})["id"] for number in range(SPARES)],
        "distributions": [admin.done(admin.post(f"user-pools/{pools[0]}/distributions", wanted))],
    }


def webhooks(admin):
    """Webhooks with deliveries, and others to delete."""
    made = [admin.post("webhooks", {"url": f"https://receiver.example/{number}"})["id"] for number in range(SPARES + 2)]
    tested = made[:2]
    deliveries = [admin.post(f"webhooks/{webhook}/test", None)["id"] for webhook in tested + tested]
    return {"webhooks": tested, "spare_webhooks": made[2:], "deliveries": deliveries}


def failed_job(admin, book):
    """A job whose pattern has no free codes."""
    admin.done(upload_file(admin, book, "".join(f"TAKEN-{digit}\n" for digit in range(10))))
    wanted = {"couponBookId": book, "quantity": 10, "pattern": "TAKEN-{9}"}
    return admin.done(admin.post("coupon-codes/generate", wanted))


def upload_file(admin, book, file):
    headers = admin.headers | {"Content-Type": "text/csv"}
    return Client(admin.base, headers).ask("POST", f"coupon-codes/upload?couponBookId={book}", data=file.encode())


def cursors(admin, seed):
    """The second page of each list that has one."""
    lists = {
        "listUsers": "users",
        "listApiKeys": "api-keys",
        "listCouponBooks": "coupon-books",
        "listCodes": f"coupon-codes/book/{seed['book']}",
        "listUserCoupons": f"assignments/user/{USER}",
        "listJobs": "jobs",
        "listWebhooks": "webhooks",
        "listWebhookDeliveries": f"webhooks/{seed['webhooks'][0]}/deliveries",
        "findCoupons": "coupons?q=SEED-",
        "listEvents": "events",
        "getCouponHistory": f"coupons/{seed['codes'][0]}/history",
    }
    return {name: admin.ask("GET", f"{path}{'&' if '?' in path else '?'}limit=1")["nextCursor"] for name, path in lists.items()}


def ask_as(role, schemathesis, seed, work):
    """Runs schemathesis once; returns whether it found no error."""
    command = [schemathesis, "--config-file", str(HERE / "schemathesis.toml"), "run", f"{seed['base']}/openapi.json"]
    command += ["--max-examples", EXAMPLES]
    environment = os.environ | {"SCHEMATHESIS_SEED": str(work / "seed.json"), "SCHEMATHESIS_ROLE": role}
    print(f"\n== as {role}", flush=True)
    found_nothing = subprocess.run(command, env=environment, cwd=HERE, check=False).returncode == 0
    if seed["headers"][role]:
        # Otherwise most requests would only be rejected.
        Client(seed["base"], seed["headers"][role]).ask("GET", "auth/me")
    return found_nothing


def main():
    program, schemathesis, work = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]).resolve()
    work.mkdir(parents=True, exist_ok=True)
    server = Server(program, work)
    try:
        seed = prepare(server.base)
        (work / "seed.json").write_text(json.dumps(seed), encoding="utf-8")
        failed = [role for role in ROLES if not ask_as(role, schemathesis, seed, work)]
    finally:
        server.stop()
    if failed:
        sys.exit(f"schemathesis found errors as {', '.join(failed)}")


main()
