#!/usr/bin/env python3
"""A stand-in for your payment provider, so that the example runs on one machine. It takes no money.

It has what payment providers have in common: a payment is created once for each `Idempotency-Key`, the customer pays on a
page of the provider, webhooks are signed and repeated until they are answered, and payments are refunded in full or in part.
Everything is in memory. Python 3.10 or newer, standard library only.

    POST /payments                {"orderId", "amount"}   Idempotency-Key   a payment, PENDING
    GET  /payments/ID             the payment
    GET  /payments                all payments
    POST /payments/ID/refunds     {"amount"}              Idempotency-Key   the payment

    POST /pay/ID                  {"card": "ok" or "declined", "webhooks": 1}   what the customer does on the page
    POST /test/expire/ID          the time to pay has passed
    POST /test/webhook/ID         {"type", "url"}         sends a webhook now, and returns the status of the shop's answer
    POST /test/outage             {"requests", "loses"}   the next requests get 503, or take effect without an answer
"""

import base64
import hashlib
import hmac
import json
import os
import threading
import time
import uuid
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# In cents.
MAX_AMOUNT = 1_000_000
# Of a webhook. The pause before the next attempt doubles.
ATTEMPTS = 10
FIRST_PAUSE_SECONDS = 0.5


class Problem(Exception):
    """(HTTP status, code)."""


class Provider:
    """All payments, by id. Calls hold the lock, so each of them is one step."""

    def __init__(self, url, key, webhook_url):
        self.url, self.key, self.webhook_url = url, key, webhook_url
        self.lock = threading.Lock()
        self.payments = {}
        self.answers = {}  # By idempotency key.
        self.outage = self.lost_answers = 0

    def create(self, key, request):
        if request["amount"] > MAX_AMOUNT:
            raise Problem(409, "amount_too_high")
        payment = self.answers.get(key)
        if payment is None:
            id = f"pay_{uuid.uuid4().hex}"
            payment = {"id": id, "orderId": request["orderId"], "amount": request["amount"], "status": "PENDING"}
            payment |= {"refunds": [], "payUrl": f"{self.url}/pay/{id}"}
            self.payments[id] = payment
            self.remember(key, payment)
        return payment

    def refund(self, id, key, request):
        payment = self.find(id)
        if key not in self.answers:
            if payment["status"] != "SUCCEEDED" or sum(payment["refunds"]) + request["amount"] > payment["amount"]:
                raise Problem(409, "cannot_be_refunded")
            payment["refunds"].append(request["amount"])
            self.remember(key, payment)
        return payment

    def remember(self, key, payment):
        if key:
            self.answers[key] = payment

    def find(self, id):
        if id not in self.payments:
            raise Problem(404, "no_such_payment")
        return self.payments[id]

    def finish(self, id, status):
        """A payment ends once: a declined or expired payment takes no money later."""
        payment = self.find(id)
        if payment["status"] == "PENDING":
            payment["status"] = status
        return payment

    def send_webhook(self, payment, kind, url=None):
        """One attempt. Returns the status of the answer, or 0 if there was none."""
        body = json.dumps({"type": kind, "orderId": payment["orderId"], "paymentId": payment["id"]}).encode()
        event_id, sent_at = f"evt_{uuid.uuid4().hex}", str(int(time.time()))
        signature = hmac.digest(self.key.encode(), f"{event_id}.{sent_at}.".encode() + body, hashlib.sha256)
        headers = {
            "Content-Type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": sent_at,
            "webhook-signature": "v1," + base64.b64encode(signature).decode(),
        }
        parts = urlsplit(url or self.webhook_url)
        connection = HTTPConnection(parts.netloc, timeout=10)
        try:
            connection.request("POST", parts.path, body, headers)
            return connection.getresponse().status
        except (OSError, HTTPException):
            return 0
        finally:
            connection.close()

    def send_until_answered(self, payment, kind):
        for attempt in range(ATTEMPTS):
            if self.send_webhook(payment, kind) == 200:
                return
            time.sleep(FIRST_PAUSE_SECONDS * 2**attempt)

    def pay(self, id, request):
        payment = self.finish(id, "SUCCEEDED" if request.get("card", "ok") == "ok" else "DECLINED")
        for _ in range(request.get("webhooks", 1)):
            kind = f"payment.{payment['status'].lower()}"
            threading.Thread(target=self.send_until_answered, args=(payment, kind), daemon=True).start()
        return payment


class Handler(BaseHTTPRequestHandler):
    is_lost = False

    def do_GET(self):
        self.answer(self.get, {})

    def do_POST(self):
        self.answer(self.post, json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}"))

    def get(self, provider, path, _):
        self.authenticate(provider)
        return provider.find(path[1]) if len(path) == 2 else list(provider.payments.values())

    def post(self, provider, path, request):
        match path:
            case ["pay", id]:
                return provider.pay(id, request)
            case ["test", "expire", id]:
                return provider.finish(id, "EXPIRED")
            case ["test", "outage"]:
                if request.get("loses") == "answer":
                    provider.lost_answers = request["requests"]
                else:
                    provider.outage = request["requests"]
                return {}
        self.authenticate(provider)
        key = self.headers.get("Idempotency-Key")
        match path:
            case ["payments"]:
                return provider.create(key, request)
            case ["payments", id, "refunds"]:
                return provider.refund(id, key, request)
        raise Problem(404, "no_such_path")

    def authenticate(self, provider):
        if self.headers.get("Authorization") != f"Bearer {provider.key}":
            raise Problem(401, "unauthorized")
        if provider.outage > 0:
            provider.outage -= 1
            raise Problem(503, "unavailable")
        if provider.lost_answers > 0:
            provider.lost_answers -= 1
            self.is_lost = True

    def answer(self, act, request):
        provider, path = self.server.provider, self.path.split("?")[0].strip("/").split("/")
        try:
            if path[:2] == ["test", "webhook"]:  # Without the lock: the shop asks for the payment before it answers.
                answered = provider.send_webhook(provider.find(path[2]), request["type"], request.get("url"))
                status, content = 200, {"status": answered}
            else:
                with provider.lock:
                    status, content = 200, act(provider, path, request)
        except Problem as problem:
            status, content = problem.args[0], {"code": problem.args[1]}
        if self.is_lost:
            return
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def main(settings=os.environ):
    server = ThreadingHTTPServer(("127.0.0.1", int(settings.get("PROVIDER_PORT", "8090"))), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    webhook_url = settings.get("SHOP_URL", "http://127.0.0.1:8091") + "/webhooks/payments"
    server.provider = Provider(url, settings.get("PROVIDER_KEY", "development only"), webhook_url)
    print(f"provider at {url}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
