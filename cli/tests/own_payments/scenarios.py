"""What customers, the provider and the support do, and what must be true afterwards, wherever the shop is killed."""

import functools
import json
import pathlib
import sqlite3
import time
import uuid
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode, urlsplit

from nightly import differences
from process import Process, execute

AMOUNT = 900
TOO_HIGH = 2_000_000
# Attempts of a request while the shop is killed or answers 503.
ATTEMPTS = 8
PATIENCE_SECONDS = 30


class Failure(Exception):
    """The shop broke a promise."""


def require(condition, text):
    if not condition:
        raise Failure(text)


def http(method, url, body=None, headers=None):
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=PATIENCE_SECONDS)
    try:
        text = body if method == "GET" or isinstance(body, bytes) else json.dumps(body or {})
        headers = {"Content-Type": "application/json"} | (headers or {})
        connection.request(method, parts._replace(scheme="", netloc="").geturl(), text, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


class World:
    """A shop with one customer, who holds one code. The shop is killed at each of `kills`, and started again."""

    def __init__(self, code, server, provider, folder, kills=(), record=None):
        self.program, self.server, self.provider = code, server, provider
        self.folder, self.kills, self.record = pathlib.Path(folder), list(kills), record
        self.user, self.code, self.orders, self.shop = f"user-{uuid.uuid4().hex}", None, [], None
        self.deaths, self.will_die, self.waits_for_lock = 0, False, False

    # The shop.

    def start(self):
        settings = {
            "SHOP_DATABASE": str(self.folder / "shop.sqlite"),
            "SHOP_PORT": "0",
            "SHOP_RESUME_SECONDS": "3600",
            "SHOP_LOCK_SECONDS": "1" if self.waits_for_lock else "600",
            "PROVIDER_URL": self.provider,
            "CUPONERA_URL": self.server["url"],
            "CUPONERA_API_KEY": self.server["key"],
        }
        kill_at = self.kills.pop(0) if self.kills else None
        run = functools.partial(execute, self.program, settings, kill_at, self.record)
        self.shop, self.will_die = Process(run, self.folder / "stderr"), kill_at is not None
        if self.shop.url is None:
            self.restart()

    def restart(self):
        require(self.shop.was_killed(), f"the shop does not answer: {self.stderr()}")
        require(self.will_die, "the shop was killed by another process")
        self.deaths += 1
        self.start()

    def stderr(self):
        path = self.folder / "stderr"
        return path.read_text() if path.exists() else ""

    def note(self, *words):
        """Writes what others do between the line events of the shop: they change the state that a killed shop leaves."""
        if self.record is not None:
            with open(self.record, "a") as record:
                print(*words, file=record)

    def ask(self, method, path, body=None, headers=None, expected=200):
        """Sends a request to the shop, again after each kill and after each 503, as customers and providers do."""
        for _ in range(ATTEMPTS):
            try:
                status, answer = http(method, self.shop.url + path, body, headers)
            except (OSError, HTTPException):
                self.restart()
                continue
            if status != 503:
                require(status == expected, f"{method} {path}: {status} {answer}")
                return answer
        raise Failure(f"{method} {path}: no answer")

    # The customer, the support and the provider.

    def assign(self, book):
        body = {"couponBookId": self.server["books"][book], "userId": self.user}
        self.code = self.cuponera("POST", "/assignments/random", body)["code"]
        self.note("book", book)

    def checkout(self, amount=AMOUNT, **changes):
        order = {"orderId": f"o-{uuid.uuid4().hex}", "userId": self.user, "code": self.code, "amount": amount} | changes
        self.orders.append(order["orderId"])
        self.note("checkout", amount, *changes)
        return self.ask("POST", "/checkout", order)

    def pay(self, order, card="ok"):
        http("POST", order["pay_url"], {"card": card, "webhooks": 0})
        self.note("pay", card)

    def webhook(self, order, kind="payment.succeeded"):
        """The provider sends it again until the shop answers 200."""
        for _ in range(ATTEMPTS):
            body = {"type": kind, "url": f"{self.shop.url}/webhooks/payments"}
            _, answer = http("POST", f"{self.provider}/test/webhook/{order['payment_id']}", body)
            if answer["status"] == 200:
                return
            require(answer["status"] in (0, 503), f"the shop rejects a webhook: {answer}")
            if answer["status"] == 0:
                self.restart()
        raise Failure("the shop does not accept a webhook")

    def refund(self, order, amount, refund_id=None, expected=200):
        self.note("refund", amount)
        body = {"refundId": refund_id or f"r-{uuid.uuid4().hex}", "amount": amount}
        return self.ask("POST", f"/orders/{order['id']}/refunds", body, expected=expected)

    def expire(self, order):
        http("POST", f"{self.provider}/test/expire/{order['payment_id']}")
        self.note("expire")

    def provider_fails(self, requests, loses="request"):
        http("POST", f"{self.provider}/test/outage", {"requests": requests, "loses": loses})
        self.note("outage", requests, loses)

    def resume(self):
        self.ask("POST", "/resume")

    # Cuponera.

    def cuponera(self, method, path, body=None):
        status, answer = http(method, f"{self.server['url']}/api/v1{path}", body, {"X-API-Key": self.server["key"]})
        require(status in (200, 201), f"{method} {path}: {status} {answer}")
        return answer

    def coupon(self):
        coupon = self.cuponera("GET", f"/coupons/{self.code}")
        return coupon["status"], coupon["redeemCount"]

    def coupon_is(self, status, uses):
        require(self.coupon() == (status, uses), f"the coupon is {self.coupon()}, not {(status, uses)}")

    def end_lock(self):
        """The time of the lock passes. A run with kills does not wait for it: an unlock has the same effect for the shop."""
        if not self.waits_for_lock:
            self.cuponera("POST", f"/coupons/{self.code}/unlock", {"userId": self.user})
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.coupon()[0] == "LOCKED":
            require(time.monotonic() < deadline, "the lock does not end")
            time.sleep(0.02)
        self.note("end of lock")

    # The end.

    def dies_after_the_last_answer(self):
        """The first kill happens in any case; the second one only if the restarted shop executes enough lines."""
        if not self.will_die or self.deaths > 0 or not self.shop.died():
            return False
        self.restart()
        return True

    def check(self, states):
        """Each order has the state in `states` and agrees with the provider and Cuponera; nothing is left over."""
        self.resume()
        found = [self.ask("GET", f"/orders/{id}")["state"] for id in self.orders]
        require(found == list(states), f"the orders are {found}, not {list(states)}")
        db = sqlite3.connect(self.folder / "shop.sqlite")
        db.row_factory = sqlite3.Row
        refunds = {}
        for row in db.execute("SELECT order_id, amount FROM refunds"):
            refunds.setdefault(row["order_id"], []).append(row["amount"])
        _, payments = http("GET", f"{self.provider}/payments", headers={"Authorization": "Bearer development only"})
        redemptions = self.cuponera("GET", f"/redemptions?{urlencode({'userId': self.user, 'limit': 500})}")["data"]
        payments = [payment for payment in payments if payment["orderId"] in self.orders]
        texts = differences(db.execute("SELECT * FROM orders").fetchall(), refunds, payments, redemptions, open_seconds=-1)
        db.close()
        require(not texts, "; ".join(texts))
        require(not self.stderr(), self.stderr())


# The scenarios. Each returns the states of its orders, and the status and the uses of the coupon.

def paid(world):
    order = world.checkout()
    world.coupon_is("LOCKED", 0)
    world.pay(order)
    world.webhook(order)
    return ["PAID"], "ASSIGNED", 1


def declined(world):
    order = world.checkout()
    world.pay(order, "declined")
    world.webhook(order, "payment.declined")
    world.coupon_is("ASSIGNED", 0)
    order = world.checkout()
    world.pay(order)
    world.webhook(order)
    return ["UNPAID", "PAID"], "ASSIGNED", 1


def webhook_twice(world):
    """Also too early, and out of order."""
    order = world.checkout()
    world.webhook(order, "payment.created")
    world.pay(order)
    world.webhook(order)
    world.webhook(order)
    world.webhook(order, "payment.created")
    return ["PAID"], "ASSIGNED", 1


def webhook_late(world):
    """The lock has ended, and the book requires one."""
    order = world.checkout()
    world.pay(order)
    world.end_lock()
    world.webhook(order)
    return ["PAID"], "ASSIGNED", 1


def webhook_never(world):
    order = world.checkout()
    world.pay(order)
    world.resume()
    return ["PAID"], "ASSIGNED", 1


def abandoned(world):
    """The customer leaves, uses the coupon in another order, and then pays the first one."""
    first = world.checkout()
    world.end_lock()
    second = world.checkout()
    world.pay(second)
    world.webhook(second)
    world.pay(first)
    world.webhook(first)
    return ["REFUNDED", "PAID"], "REDEEMED", 1


def expired(world):
    order = world.checkout()
    world.end_lock()
    world.expire(order)
    world.webhook(order, "payment.expired")
    return ["UNPAID"], "ASSIGNED", 0


def expired_after_use(world):
    first = world.checkout()
    second = world.checkout()
    world.pay(second)
    world.webhook(second)
    world.expire(first)
    world.webhook(first, "payment.expired")
    return ["UNPAID", "PAID"], "REDEEMED", 1


def refunded(world):
    """The support clicks twice, and a webhook of the payment arrives after the one of the refund."""
    order = world.checkout()
    world.pay(order)
    world.webhook(order)
    for _ in range(2):
        world.refund(order, AMOUNT, refund_id=f"{order['id']}-all")
    world.webhook(order, "payment.refunded")
    world.webhook(order, "payment.succeeded")
    return ["REFUNDED"], "ASSIGNED", 0


def rolled_back_by_hand(world):
    """The support rolls the redemption back, and then returns the money."""
    order = world.checkout()
    world.pay(order)
    world.webhook(order)
    redemption = world.ask("GET", f"/orders/{order['id']}")["redemption_id"]
    world.cuponera("POST", f"/redemptions/{redemption}/rollback", {"reason": "by hand"})
    world.note("rollback by hand")
    world.refund(order, AMOUNT)
    return ["REFUNDED"], "ASSIGNED", 0


def partly_refunded(world):
    order = world.checkout()
    world.pay(order)
    world.webhook(order)
    world.refund(order, AMOUNT // 3)
    return ["PAID"], "ASSIGNED", 1


def refunded_in_parts(world):
    order = world.checkout()
    world.pay(order)
    world.webhook(order)
    world.refund(order, AMOUNT // 3)
    world.refund(order, AMOUNT, expected=409)
    world.refund(order, AMOUNT - AMOUNT // 3)
    return ["REFUNDED"], "ASSIGNED", 0


def mistakes(world):
    """Outages of the provider, forged webhooks, and requests that the shop rejects."""
    world.provider_fails(1)
    world.provider_fails(1, "answer")
    order = world.checkout()
    other = {"orderId": order["id"], "userId": world.user, "code": world.code, "amount": 1}
    world.ask("POST", "/checkout", other, expected=409)
    world.ask("GET", "/orders/none", expected=404)
    world.refund(order, AMOUNT, expected=409)
    forged = {"webhook-id": "1", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"}
    world.ask("POST", "/webhooks/payments", json.dumps({"orderId": order["id"]}).encode(), forged, expected=401)
    world.provider_fails(1)
    world.resume()
    world.provider_fails(0)
    world.pay(order)
    world.webhook(order)
    world.checkout(code="NO-SUCH-CODE")
    world.checkout(TOO_HIGH)
    return ["PAID", "REJECTED", "UNPAID"], "ASSIGNED", 1


# The book of each scenario: its codes have one use or five, or need a lock.
SCENARIOS = {
    paid: "five",
    declined: "five",
    webhook_twice: "five",
    webhook_late: "lock",
    webhook_never: "five",
    abandoned: "one",
    expired: "five",
    expired_after_use: "one",
    refunded: "five",
    rolled_back_by_hand: "five",
    partly_refunded: "five",
    refunded_in_parts: "five",
    mistakes: "five",
}
# Those that call `end_lock`.
END_OF_LOCK = {webhook_late, abandoned, expired}
BY_NAME = {scenario.__name__: scenario for scenario in SCENARIOS}


def play(name, world):
    """Plays a scenario to its end and checks it. Returns the number of kills."""
    scenario = BY_NAME[name]
    try:
        world.assign(SCENARIOS[scenario])
        world.waits_for_lock = world.record is not None and scenario in END_OF_LOCK
        world.start()
        states, status, uses = scenario(world)
        world.check(states)
        world.coupon_is(status, uses)
        if world.dies_after_the_last_answer():
            world.check(states)
            world.coupon_is(status, uses)
        return world.deaths
    finally:
        if world.shop is not None:
            world.shop.kill()
