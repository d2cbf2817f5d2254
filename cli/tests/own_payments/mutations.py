"""Bugs that the checks must find: a text of shop.py, its replacement, and the scenarios to play."""

BUGS = {
    "no_reference": (', "reference": order["id"]}', "}", ["paid"]),
    "no_payment_key": (', key=order["id"])', ")", ["paid"]),
    "no_refund_key": (', key=refund["id"])', ")", ["partly_refunded"]),
    "refund_written_before_the_call": (
        """            self.call_provider("POST", path, {"amount": refund["amount"]}, key=refund["id"])
            self.db.execute("UPDATE refunds SET done = 1 WHERE id = ?", (refund["id"],))
""",
        """            self.db.execute("UPDATE refunds SET done = 1 WHERE id = ?", (refund["id"],))
            self.call_provider("POST", path, {"amount": refund["amount"]}, key=refund["id"])
""",
        ["refunded"],
    ),
    "paid_before_redeemed": (
        """        request = {"userId": order["user_id"], "reference": order["id"]}
""",
        """        request = {"userId": order["user_id"], "reference": order["id"]}
        self.move(order, "PAID")
        order["version"] += 1
""",
        ["webhook_never"],
    ),
    "refund_and_state_apart": (
        "            with self.db:\n                return",
        "            self.db.execute('COMMIT')\n            if True:\n                return",
        ["abandoned"],
    ),
    "rolled_back_twice": (', accepts="already_rolled_back")', ")", ["refunded"]),
    "coupon_lost_after_a_failed_payment": (
        'return self.move(order, "RELEASING", reason=payment["status"])',
        'return self.move(order, "UNPAID")',
        ["declined"],
    ),
    "no_refund_without_coupon": (
        """return self.plan_refund(order, f"{order['id']}-no-coupon", order["amount"], reason=str(rejected))""",
        'return self.move(order, "UNPAID")',
        ["abandoned"],
    ),
    "partial_refund_rolls_back": ('if self.refunded(order["id"]) < order["amount"]:', "if False:", ["partly_refunded"]),
    "trusts_the_webhook": (
        '        return self.advance(event["orderId"])\n',
        '''        if event["type"] == "payment.succeeded":
            self.move(self.order(event["orderId"]), "REDEEMING")
        return self.advance(event["orderId"])
''',
        ["refunded"],
    ),
    "no_resume": ('                self.advance(row["id"])\n', "                pass\n", ["webhook_never"]),
}


def mutated(source, bug):
    text, replacement, _ = BUGS[bug]
    if source.count(text) != 1:
        raise SystemExit(f"the bug {bug} does not match shop.py once: {text}")
    return source.replace(text, replacement)
