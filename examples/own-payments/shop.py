#!/usr/bin/env python3
"""A shop that takes payments with its own provider and discounts with Cuponera. docs/own-payments.md explains it.

The state of an order in SQLite is the only memory of the shop. Each step of an order writes the intent, calls with a
key, and writes the result together with the next intent. A process that is killed at any line leaves an intent, and
`Shop.resume` repeats its call: the key makes the repetition harmless.

    state         intent                          key of the call                  next state
    LOCKING       lock the code                   the user: renews the lock        STARTING, REJECTED
    STARTING      start the payment               the order id                     WAITING, RELEASING
    WAITING       ask the provider for the result (a read)                         REDEEMING, RELEASING
    REDEEMING     redeem the code                 reference = the order id         PAID, REFUNDING
    RELEASING     unlock the code                 the lock id                      UNPAID
    REFUNDING     return money                    the refund id                    PAID, ROLLING_BACK, REFUNDED
    ROLLING_BACK  give the use of the code back   the redemption id                REFUNDED

Final states: PAID, UNPAID (no money taken, the coupon is free again), REJECTED (the coupon cannot be used; no payment
was started), REFUNDED. Settings are environment variables, see `main`. Python 3.10 or newer, standard library only.
"""

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import quote, urlsplit

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL,
  code TEXT NOT NULL,
  amount INTEGER NOT NULL,            -- cents, after the discount
  state TEXT NOT NULL,
  version INTEGER NOT NULL DEFAULT 0, -- number of moves: a process that has read an older state moves nothing
  lock_id TEXT,                       -- written with the result of a step
  payment_id TEXT,
  pay_url TEXT,
  redemption_id TEXT,
  reason TEXT,                        -- why the order is REJECTED or UNPAID, or why the shop returned the money
  created_at INTEGER NOT NULL DEFAULT (strftime('%s', 'now'))
);
CREATE TABLE IF NOT EXISTS refunds (
  id TEXT PRIMARY KEY,
  order_id TEXT NOT NULL REFERENCES orders,
  amount INTEGER NOT NULL CHECK (amount > 0),
  done INTEGER NOT NULL DEFAULT 0     -- whether the provider has confirmed it
);
"""
TIMEOUT_SECONDS = 10
# Maximum age of a webhook's signature. The provider signs each attempt, so a late webhook has a new signature.
SIGNATURE_SECONDS = 300
# With these answers the book requires a lock, and the lock of the checkout has ended.
LOCK_ENDED = ("lock_required", "lock_expired")


class Unavailable(Exception):
    """A call failed, and whether it took effect is unknown: repeat it later with the same key."""


class Rejected(Exception):
    """The other side has decided, and a repeated call gets the same answer. `str(rejected)` is the code of the answer."""


class BadRequest(Exception):
    """A caller of the shop made a mistake: (HTTP status, text)."""


def call(method, url, headers, body=None):
    """Sends a request. Returns the answer as JSON; raises Rejected for 404, 409 and 410, otherwise Unavailable.

    A wrong API key (401, 403) is Unavailable as well: it says nothing about the coupon, so nobody is refunded for it.
    """
    parts = urlsplit(url)
    path = parts._replace(scheme="", netloc="").geturl()
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = connect(parts.netloc, timeout=TIMEOUT_SECONDS)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"} | headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, HTTPException, ValueError) as error:
        raise Unavailable(f"{method} {url}: {error!r}") from error
    finally:
        connection.close()
    if response.status in (200, 201):
        return answer
    if response.status in (404, 409, 410) and "code" in answer:
        raise Rejected(answer["code"])
    raise Unavailable(f"{method} {url}: {response.status} {answer}")


class Shop:
    """The orders and the steps that move them from one state to the next."""

    def __init__(self, database, cuponera, api_key, provider, provider_key, lock_seconds):
        self.cuponera, self.api_key = cuponera, api_key
        self.provider, self.provider_key = provider, provider_key
        self.lock_seconds = lock_seconds
        self.steps = {
            "LOCKING": self.lock,
            "STARTING": self.start_payment,
            "WAITING": self.ask_provider,
            "REDEEMING": self.redeem,
            "RELEASING": self.release,
            "REFUNDING": self.refund,
            "ROLLING_BACK": self.roll_back,
        }
        self.db = sqlite3.connect(database, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.executescript(SCHEMA)

    # What customers, the support and the provider ask for.

    def checkout(self, basket):
        """Creates an order once for each orderId, and locks its code. The answer has the address of the payment page."""
        order_id, user_id, code, amount = (basket[name] for name in ("orderId", "userId", "code", "amount"))
        self.db.execute(
            "INSERT INTO orders (id, user_id, code, amount, state) VALUES (?, ?, ?, ?, 'LOCKING')"
            " ON CONFLICT DO NOTHING",
            (order_id, user_id, code, amount),
        )
        order = self.order(order_id)
        if (order["user_id"], order["code"], order["amount"]) != (user_id, code, amount):
            raise BadRequest(409, "another order has this orderId")
        return self.advance(order_id)

    def request_refund(self, order_id, request):
        """Returns money of a paid order, once for each refundId."""
        refund_id, amount = request["refundId"], request["amount"]
        self.db.execute("BEGIN IMMEDIATE")
        with self.db:  # Commits, or rolls back after an exception.
            order = self.order(order_id)
            if not self.db.execute("SELECT 1 FROM refunds WHERE id = ?", (refund_id,)).fetchone():
                if order["state"] != "PAID" or not 0 < amount <= order["amount"] - self.refunded(order_id):
                    raise BadRequest(409, "the order is not paid, or the amount is too high")
                self.plan_refund(order, refund_id, amount)
        return self.advance(order_id)

    def webhook(self, event):
        """Something has happened to the payment of an order.

        The event is a hint to ask the provider, not a fact: a repeated, late or reordered event is then harmless.
        """
        return self.advance(event["orderId"])

    def resume(self):
        """Continues all open orders: at each start, and from time to time because a webhook may never arrive."""
        names = ", ".join(f"'{state}'" for state in self.steps)
        for row in self.db.execute(f"SELECT id FROM orders WHERE state IN ({names})").fetchall():
            try:
                self.advance(row["id"])
            except (Unavailable, Rejected) as error:
                print(f"order {row['id']} is continued later: {error}", flush=True)

    # The steps. Each returns whether it has moved the order. Several processes may take the same step: the keys and the
    # version make that harmless.

    def advance(self, order_id):
        """Takes steps until the order is in a final state or waits for the customer."""
        while True:
            order = self.order(order_id)
            step = self.steps.get(order["state"])
            if step is None or not step(order):
                return self.order(order_id)

    def lock(self, order):
        request = {"userId": order["user_id"], "ttlSeconds": self.lock_seconds}
        try:
            lock = self.call_cuponera(self.coupon(order, "lock"), request)
        except Rejected as rejected:
            return self.move(order, "REJECTED", reason=str(rejected))
        return self.move(order, "STARTING", lock_id=lock["lockId"])

    def start_payment(self, order):
        request = {"orderId": order["id"], "amount": order["amount"]}
        try:
            payment = self.call_provider("POST", "/payments", request, key=order["id"])
        except Rejected as rejected:
            return self.move(order, "RELEASING", reason=str(rejected))
        return self.move(order, "WAITING", payment_id=payment["id"], pay_url=payment["payUrl"])

    def ask_provider(self, order):
        payment = self.call_provider("GET", f"/payments/{order['payment_id']}")
        if payment["status"] == "SUCCEEDED":
            return self.move(order, "REDEEMING")
        if payment["status"] in ("DECLINED", "EXPIRED"):
            return self.move(order, "RELEASING", reason=payment["status"])
        return False

    def redeem(self, order):
        """The money is there. Redeems without a lock id: the lock may have ended, and the first paid order wins."""
        request = {"userId": order["user_id"], "reference": order["id"]}
        try:
            try:
                redemption = self.call_cuponera(self.coupon(order, "redeem"), request)
            except Rejected as rejected:
                if str(rejected) not in LOCK_ENDED:
                    raise
                self.call_cuponera(self.coupon(order, "lock"), {"userId": order["user_id"]})
                redemption = self.call_cuponera(self.coupon(order, "redeem"), request)
        except Rejected as rejected:
            # The code was used elsewhere, or was voided. The price is no longer valid: the customer gets the money back.
            self.db.execute("BEGIN IMMEDIATE")
            with self.db:
                return self.plan_refund(order, f"{order['id']}-no-coupon", order["amount"], reason=str(rejected))
        return self.move(order, "PAID", redemption_id=redemption["redemptionId"])

    def release(self, order):
        """The payment failed: the customer may use the coupon in another order at once."""
        request = {"userId": order["user_id"], "lockId": order["lock_id"]}
        try:
            self.call_cuponera(self.coupon(order, "unlock"), request)
        except Rejected:
            pass  # There is a newer lock, or the code was used in another order.
        return self.move(order, "UNPAID")

    def refund(self, order):
        path = f"/payments/{order['payment_id']}/refunds"
        planned = self.db.execute("SELECT * FROM refunds WHERE order_id = ? AND NOT done", (order["id"],))
        for refund in planned.fetchall():
            self.call_provider("POST", path, {"amount": refund["amount"]}, key=refund["id"])
            self.db.execute("UPDATE refunds SET done = 1 WHERE id = ?", (refund["id"],))
        if self.refunded(order["id"]) < order["amount"]:
            return self.move(order, "PAID")  # A part: the sale stands, and so does the redemption.
        if order["redemption_id"] is None:
            return self.move(order, "REFUNDED")
        return self.move(order, "ROLLING_BACK")

    def roll_back(self, order):
        """An earlier attempt, or the support by hand, may have rolled the redemption back already."""
        path, request = f"/redemptions/{order['redemption_id']}/rollback", {"reason": f"order {order['id']} refunded"}
        self.call_cuponera(path, request, accepts="already_rolled_back")
        return self.move(order, "REFUNDED")

    # Helpers of the steps.

    def order(self, order_id):
        order = self.db.execute("SELECT * FROM orders WHERE id = ?", (order_id,)).fetchone()
        if order is None:
            raise BadRequest(404, "no such order")
        return dict(order)

    def move(self, order, state, **results):
        """Writes the results of a step and the next intent in one statement. False: another process was faster."""
        results |= {"state": state, "version": order["version"] + 1}
        columns = ", ".join(f"{name} = ?" for name in results)
        values = (*results.values(), order["id"], order["version"])
        moved = self.db.execute(f"UPDATE orders SET {columns} WHERE id = ? AND version = ?", values).rowcount == 1
        print(f"order {order['id']}: {order['state']} -> {state}", flush=True)
        return moved

    def plan_refund(self, order, refund_id, amount, **results):
        """Writes the intent to return money. The caller has begun a transaction."""
        moved = self.move(order, "REFUNDING", **results)
        if moved:
            values = (refund_id, order["id"], amount)
            self.db.execute("INSERT INTO refunds (id, order_id, amount) VALUES (?, ?, ?)", values)
        return moved

    def refunded(self, order_id):
        """The amount that was returned or is about to be."""
        sums = self.db.execute("SELECT coalesce(sum(amount), 0) FROM refunds WHERE order_id = ?", (order_id,))
        return sums.fetchone()[0]

    def coupon(self, order, action):
        return f"/coupons/{quote(order['code'], safe='')}/{action}"

    def call_cuponera(self, path, body, accepts=None):
        """Returns the answer, or None for a rejection with the code `accepts`."""
        try:
            return call("POST", self.cuponera + path, {"X-API-Key": self.api_key}, body)
        except Rejected as rejected:
            if str(rejected) == accepts:
                return None
            raise

    def call_provider(self, method, path, body=None, key=""):
        headers = {"Authorization": f"Bearer {self.provider_key}", "Idempotency-Key": key}
        return call(method, self.provider + path, headers, body)


def verify(secret, headers, body):
    """Checks the signature of a webhook, here by the rules of Standard Webhooks. Your provider has its own."""
    event_id, sent_at, signature = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    signed = f"{event_id}.{sent_at}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.digest(secret.encode(), signed, hashlib.sha256)).decode()
    is_signed = hmac.compare_digest(signature.encode(), expected.encode())
    if not is_signed or abs(time.time() - int(sent_at)) > SIGNATURE_SECONDS:
        raise BadRequest(401, "the signature is not valid")


class Handler(BaseHTTPRequestHandler):
    """The HTTP interface. `server.shop` is the shop. Only webhooks are authenticated here: your shop has its sessions."""

    timeout = TIMEOUT_SECONDS

    def do_GET(self):
        self.answer(lambda: self.server.shop.order(self.path.removeprefix("/orders/")))

    def do_POST(self):
        self.answer(self.post)

    def post(self):
        shop, body = self.server.shop, self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/webhooks/payments":
            verify(shop.provider_key, self.headers, body)
            return shop.webhook(json.loads(body))
        if self.path == "/checkout":
            return shop.checkout(json.loads(body))
        if self.path == "/resume":
            return shop.resume()
        return shop.request_refund(self.path.removeprefix("/orders/").removesuffix("/refunds"), json.loads(body))

    def answer(self, act):
        """Answers after the database has the result. 503: the provider or the customer sends the same request again."""
        try:
            status, content = 200, act()
        except BadRequest as error:
            status, content = error.args[0], {"error": error.args[1]}
        except (Unavailable, Rejected) as error:
            status, content = 503, {"error": str(error)}
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))  # So that a reader notices an answer that ends early.
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def serve(server, resume_seconds):
    """Resumes the open orders, and again every `resume_seconds`; answers requests in between."""
    resume_at = time.monotonic()
    while True:
        server.timeout = resume_at - time.monotonic()
        if server.timeout <= 0:
            server.shop.resume()
            resume_at = time.monotonic() + resume_seconds
        else:
            server.handle_request()


def main(settings=os.environ):
    shop = Shop(
        database=settings.get("SHOP_DATABASE", "shop.sqlite"),
        cuponera=settings.get("CUPONERA_URL", "http://127.0.0.1:8080") + "/api/v1",
        api_key=settings["CUPONERA_API_KEY"],
        provider=settings.get("PROVIDER_URL", "http://127.0.0.1:8090"),
        provider_key=settings.get("PROVIDER_KEY", "development only"),
        lock_seconds=int(settings.get("SHOP_LOCK_SECONDS", "1800")),
    )
    server = HTTPServer(("127.0.0.1", int(settings.get("SHOP_PORT", "8091"))), Handler)
    server.shop = shop
    print(f"shop at http://127.0.0.1:{server.server_port}", flush=True)
    serve(server, float(settings.get("SHOP_RESUME_SECONDS", "60")))


if __name__ == "__main__":
    main()
