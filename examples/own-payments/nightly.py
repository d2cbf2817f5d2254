#!/usr/bin/env python3
"""Compares the orders of the shop, the payments of the provider and the redemptions of Cuponera. Prints each difference.

Run it each night, with the settings of shop.py. SHOP_BOOKS are the ids of the books of this shop, separated by commas:
set it if other programs redeem codes of other books. Exit status 1 if there is a difference.
"""

import os
import sqlite3
import sys
import time
from collections import defaultdict
from urllib.parse import urlencode

from shop import call

# Orders that are open for less than this time are left out: their customers may be about to pay.
OPEN_SECONDS = 86_400
FINAL = ("PAID", "UNPAID", "REJECTED", "REFUNDED")


def differences(orders, refunds, payments, redemptions, open_seconds=OPEN_SECONDS):
    """The differences as sentences. `refunds` are the amounts by order; the others are lists of rows and answers."""
    payments_of, redemptions_of = defaultdict(list), defaultdict(list)
    for payment in payments:
        payments_of[payment["orderId"]].append(payment)
    for redemption in redemptions:
        redemptions_of[redemption.get("reference")].append(redemption)
    found = []
    for order in orders:
        id = order["id"]
        texts = of_order(order, refunds.get(id, []), payments_of.pop(id, []), redemptions_of.pop(id, []))
        if order["state"] in FINAL or order["created_at"] < time.time() - open_seconds:
            found += [f"order {id}: {text}" for text in texts]
    for id, strangers in payments_of.items():
        found += [f"payment {payment['id']}: there is no order {id}" for payment in strangers]
    for id, strangers in redemptions_of.items():
        found += [f"redemption {redemption['id']}: there is no order {id}" for redemption in strangers]
    return found


def of_order(order, refunds, payments, redemptions):
    state = order["state"]
    paid = [payment for payment in payments if payment["status"] == "SUCCEEDED"]
    standing = [redemption for redemption in redemptions if "rolledBackAt" not in redemption]
    if state not in FINAL:
        yield f"is still {state}"
    if len(payments) > 1 or len(redemptions) > 1:
        yield f"has {len(payments)} payments and {len(redemptions)} redemptions"
    if len(paid) != (state in ("PAID", "REFUNDED")):
        yield f"is {state}, and the customer has paid {len(paid)} times"
    if len(standing) != (state == "PAID"):
        yield f"is {state}, and {len(standing)} redemptions stand"
    returned = [amount for payment in payments for amount in payment["refunds"]]
    if sorted(refunds) != sorted(returned):
        yield f"has the refunds {refunds}, and the provider has {returned}"
    if (sum(returned) == order["amount"]) != (state == "REFUNDED"):
        yield f"is {state}, and {sum(returned)} of {order['amount']} were returned"


def pages(url, api_key, filter):
    """All items of a list of Cuponera."""
    cursor = {}
    while True:
        page = call("GET", f"{url}?{urlencode({'limit': 500} | filter | cursor)}", {"X-API-Key": api_key})
        yield from page["data"]
        if page.get("nextCursor") is None:
            return
        cursor = {"cursor": page["nextCursor"]}


def main(settings=os.environ):
    db = sqlite3.connect(settings.get("SHOP_DATABASE", "shop.sqlite"))
    db.row_factory = sqlite3.Row
    refunds = defaultdict(list)
    for row in db.execute("SELECT order_id, amount FROM refunds"):
        refunds[row["order_id"]].append(row["amount"])
    provider = {"Authorization": f"Bearer {settings.get('PROVIDER_KEY', 'development only')}"}
    payments = call("GET", settings.get("PROVIDER_URL", "http://127.0.0.1:8090") + "/payments", provider)
    url, key = settings.get("CUPONERA_URL", "http://127.0.0.1:8080") + "/api/v1/redemptions", settings["CUPONERA_API_KEY"]
    filters = [{"couponBookId": book} for book in settings.get("SHOP_BOOKS", "").split(",") if book] or [{}]
    redemptions = [redemption for filter in filters for redemption in pages(url, key, filter)]
    found = differences(db.execute("SELECT * FROM orders").fetchall(), refunds, payments, redemptions)
    print("\n".join(found) or "no difference")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
