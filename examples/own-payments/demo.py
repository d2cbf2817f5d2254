#!/usr/bin/env python3
"""Runs the example against a Cuponera on this machine: starts the shop and the provider, and plays a customer.

    CUPONERA_PASSWORD='...' python3 examples/own-payments/demo.py

The password is the one of the first admin, which `make run` prints at its first start; CUPONERA_URL and CUPONERA_EMAIL name
another installation. The demo creates a book and an API key, and leaves them. Python 3.10 or newer, standard library only.
"""

import getpass
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

HERE = pathlib.Path(__file__).resolve().parent
AMOUNT = 900
PATIENCE_SECONDS = 60


def http(method, url, body=None, headers=None):
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=30)
    text, headers = body and json.dumps(body), {"Content-Type": "application/json"} | (headers or {})
    connection.request(method, parts.path, text, headers)
    response = connection.getresponse()
    answer = json.loads(response.read())
    if response.status >= 400:
        sys.exit(f"{method} {url}: {response.status} {answer}")
    return answer


def eventually(condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        if time.monotonic() > deadline:
            sys.exit("timed out")
        time.sleep(0.05)
    return found


class Cuponera:
    """A book with one code, which belongs to a customer, and an API key for the shop."""

    def __init__(self, url, email, password):
        self.api = f"{url}/api/v1"
        token = http("POST", f"{self.api}/auth/login", {"email": email, "password": password})["accessToken"]
        self.headers = {"Authorization": f"Bearer {token}"}
        self.book = book = self.post("/coupon-books", {"name": f"Own payments {time.time():.0f}"})["id"]
        permissions = ["coupons:use", "redemptions:read", "redemptions:rollback"]
        key = {"name": "own payments", "permissions": permissions, "couponBookIds": [book]}
        self.key = self.post("/api-keys", key)["key"]
        http("PATCH", f"{self.api}/coupon-books/{book}", {"status": "ACTIVE"}, self.headers)
        job = self.post("/coupon-codes/generate", {"couponBookId": book, "quantity": 1})
        eventually(lambda: http("GET", f"{self.api}/jobs/{job['id']}", None, self.headers)["status"] == "SUCCEEDED")
        self.code = self.post("/assignments/random", {"couponBookId": book, "userId": "ana"})["code"]

    def post(self, path, body):
        return http("POST", self.api + path, body, self.headers)

    def status(self):
        return http("GET", f"{self.api}/coupons/{self.code}", None, self.headers)["status"]


def start(program, environment):
    """Starts a program of the example and waits for its address."""
    command, environment = [sys.executable, HERE / program], os.environ | environment
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().split()[-1]


def play(cuponera, environment, started):
    """The customer pays while the shop is dead, and later returns the goods."""

    def shop():
        process, url = start("shop.py", environment | {"SHOP_PORT": environment["SHOP_URL"].rsplit(":", 1)[1]})
        started.append(process)
        return process, url

    def show(what):
        print(f"{what:42} order {order['state']:9} coupon {cuponera.status()}", flush=True)

    process, url = shop()
    basket = {"orderId": f"demo-{time.time():.0f}", "userId": "ana", "code": cuponera.code, "amount": AMOUNT}
    order = http("POST", f"{url}/checkout", basket)
    show("checkout")
    process.kill()
    process.wait()
    http("POST", order["pay_url"], {"card": "ok", "webhooks": 2})
    show("kill -9 of the shop, the customer pays")
    process, url = shop()

    def is_paid():
        answer = http("GET", f"{url}/orders/{order['id']}")
        return answer if answer["state"] == "PAID" else None

    order = eventually(is_paid)
    show("the shop starts again, two webhooks arrive")
    order = http("POST", f"{url}/orders/{order['id']}/refunds", {"refundId": "demo-part", "amount": AMOUNT // 3})
    show("a third of the money is returned")
    order = http("POST", f"{url}/orders/{order['id']}/refunds", {"refundId": "demo-rest", "amount": AMOUNT - AMOUNT // 3})
    show("the rest of the money is returned")


def main():
    url = os.environ.get("CUPONERA_URL", "http://127.0.0.1:8080")
    password = os.environ.get("CUPONERA_PASSWORD") or getpass.getpass("Password of the first admin: ")
    try:
        cuponera = Cuponera(url, os.environ.get("CUPONERA_EMAIL", "admin@example.com"), password)
    except (OSError, HTTPException) as error:
        sys.exit(f"Cuponera does not answer at {url}: {error}")
    started = []
    with tempfile.TemporaryDirectory() as folder:
        shop_port = os.environ.get("SHOP_PORT", "8091")
        environment = {"CUPONERA_URL": url, "CUPONERA_API_KEY": cuponera.key, "SHOP_DATABASE": f"{folder}/shop.sqlite"}
        environment |= {"SHOP_URL": f"http://127.0.0.1:{shop_port}", "SHOP_BOOKS": cuponera.book}
        try:
            provider, environment["PROVIDER_URL"] = start("provider.py", environment)
            started.append(provider)
            play(cuponera, environment, started)
            nightly = subprocess.run([sys.executable, HERE / "nightly.py"], env=os.environ | environment, check=False)
        finally:
            for process in started:
                process.kill()
                process.wait()
    return nightly.returncode


if __name__ == "__main__":
    sys.exit(main())
