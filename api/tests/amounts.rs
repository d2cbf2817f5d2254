//! Recorded amounts over HTTP: the discount of a book on the amount of a sale.

use cuponera_testkit::eventually;
use serde_json::{Value, json};

use crate::support::{Limits, Server, id_of, wait_for_job};

/// A server, and an active book with this discount and these codes of `ann`.
async fn selling(discount: Value, codes: &[&str]) -> (Server, String) {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let book = book_of(&server, discount, codes).await;
    (server, book)
}

async fn book_of(server: &Server, discount: Value, codes: &[&str]) -> String {
    let book = server.book(json!({"discount": discount})).await;
    server.plant(&book, codes).await;
    for code in codes {
        server.give(code, "ann").await;
    }
    book
}

fn amounts(answer: &Value) -> Value {
    let fields = ["amount", "discount", "total", "currency"];
    fields.into_iter().map(|field| (field.to_owned(), answer[field].clone())).collect()
}

/// Invariant I-84.
#[tokio::test(flavor = "multi_thread")]
async fn a_sale_is_validated_locked_and_redeemed_with_one_discount() {
    let (server, _) = selling(json!({"type": "PERCENT", "value": 10.5}), &["SALE-1"]).await;
    let (ann, service) = (server.user("ann"), server.service());
    let sale = json!({"amount": "49.9", "currency": "EUR"});
    let discount = json!({"amount": "5.24", "total": "44.66", "currency": "EUR"});
    let valid = ann.post("coupons/SALE-1/validate", sale.clone()).await.expect(200);
    assert_eq!(valid["discount"], discount);
    let lock = ann.post("coupons/SALE-1/lock", sale.clone()).await.expect(200);
    assert_eq!(lock["discount"], discount);
    let mut body = sale.clone();
    body["lockId"] = lock["lockId"].clone();
    body["reference"] = json!("order 1");
    let redeemed = ann.post_with_key("coupons/SALE-1/redeem", "k", &body).await;
    let again = ann.post_with_key("coupons/SALE-1/redeem", "k", &body).await;
    assert_eq!((&redeemed.text, again.header("Idempotent-Replayed")), (&again.text, "true"));
    let redeemed = redeemed.expect(200);
    let expected = json!({"amount": "49.90", "discount": "5.24", "total": "44.66", "currency": "EUR"});
    assert_eq!(amounts(&redeemed), expected);
    let repeated = ann.post("coupons/SALE-1/redeem", json!({"reference": "order 1"})).await.expect(200);
    assert_eq!((amounts(&repeated), &repeated["replayed"]), (expected.clone(), &json!(true)));
    let id = redeemed["redemptionId"].as_str().expect("an id").to_owned();
    for caller in [&ann, &service] {
        let one = caller.get(&format!("redemptions/{id}")).await.expect(200);
        let listed = caller.get("redemptions?userId=ann").await.expect(200)["data"][0].clone();
        assert_eq!((amounts(&one), amounts(&listed)), (expected.clone(), expected.clone()));
    }
    let reason = json!({"reason": "returned"});
    let rolled_back = service.post(&format!("redemptions/{id}/rollback"), reason).await.expect(200);
    assert_eq!(amounts(&rolled_back), expected);
    let one = service.get(&format!("redemptions/{id}")).await.expect(200);
    assert_eq!(amounts(&one), expected, "a rollback keeps them");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_an_amount_have_no_fields_of_amounts() {
    let (server, _) = selling(json!({"type": "PERCENT", "value": 10}), &["PLAIN-1"]).await;
    let ann = server.user("ann");
    let valid = ann.post("coupons/PLAIN-1/validate", json!({})).await.expect(200);
    let lock = ann.post("coupons/PLAIN-1/lock", json!({})).await.expect(200);
    let nulls = json!({"amount": null, "currency": null});
    let redeemed = ann.post("coupons/PLAIN-1/redeem", nulls).await.expect(200);
    let listed = ann.get("redemptions").await.expect(200)["data"][0].clone();
    for answer in [valid, lock, redeemed, listed] {
        for field in ["amount", "discount", "total", "currency"] {
            assert_eq!(answer.get(field), None, "{answer}");
        }
    }
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_is_a_string_of_a_currency_and_everything_else_is_422_with_its_field() {
    let (server, _) = selling(Value::Null, &["BAD-1"]).await;
    let service = server.service();
    let huge = "9".repeat(40);
    for (sale, fields) in [
        (json!({"amount": 49.9, "currency": "EUR"}), vec!["amount"]),
        (json!({"amount": 49, "currency": "EUR"}), vec!["amount"]),
        (json!({"amount": true, "currency": "EUR"}), vec!["amount"]),
        (json!({"amount": "49.905", "currency": "EUR"}), vec!["amount"]),
        (json!({"amount": "49.0", "currency": "JPY"}), vec!["amount"]),
        (json!({"amount": "-49.90", "currency": "EUR"}), vec!["amount"]),
        (json!({"amount": "+49.90", "currency": "EUR"}), vec!["amount"]),
        (json!({"amount": "4.99e1", "currency": "EUR"}), vec!["amount"]),
        (json!({"amount": "1,000.00", "currency": "EUR"}), vec!["amount"]),
        (json!({"amount": " 49.90", "currency": "EUR"}), vec!["amount"]),
        (json!({"amount": "", "currency": "EUR"}), vec!["amount"]),
        (json!({"amount": "0.00", "currency": "EUR"}), vec!["amount"]),
        (json!({"amount": "10000000000000.01", "currency": "EUR"}), vec!["amount"]),
        (json!({"amount": huge, "currency": "EUR"}), vec!["amount"]),
        (json!({"amount": "49.90"}), vec!["currency"]),
        (json!({"amount": "49.90", "currency": null}), vec!["currency"]),
        (json!({"currency": "EUR"}), vec!["amount"]),
        (json!({"amount": "49.90", "currency": "eur"}), vec!["currency"]),
        (json!({"amount": "49.90", "currency": "ABC"}), vec!["currency"]),
        (json!({"amount": "49.90", "currency": "XAU"}), vec!["currency"]),
        (json!({"amount": "49.90", "currency": 978}), vec!["currency"]),
        (json!({"amount": "x", "currency": "euro"}), vec!["amount", "currency"]),
    ] {
        for operation in ["lock", "validate", "redeem"] {
            let mut body = sale.clone();
            body["userId"] = json!("ann");
            let problem = service.post(&format!("coupons/BAD-1/{operation}"), body).await.expect(422);
            let mut found: Vec<_> = problem["errors"]
                .as_array()
                .expect("errors")
                .iter()
                .filter_map(|error| error["field"].as_str())
                .collect();
            found.sort_unstable();
            assert_eq!(found, fields, "{operation} {sale}: {problem}");
        }
    }
    let number = service.post("coupons/BAD-1/redeem", json!({"amount": 49.9, "currency": "EUR"})).await;
    let message = number.expect(422)["errors"][0]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("a JSON number is not an amount"), "{message}");
    let unlocked = service.post("coupons/BAD-1/unlock", json!({"userId": "ann", "amount": "1"})).await;
    assert_eq!(unlocked.rejected(422), "invalid", "unlock takes no amount");
    assert_eq!(service.get("coupons/BAD-1").await.expect(200)["status"], "ASSIGNED");
    let largest = json!({"userId": "ann", "amount": "10000000000000.00", "currency": "EUR"});
    let redeemed = service.post("coupons/BAD-1/redeem", largest).await.expect(200);
    assert_eq!((&redeemed["discount"], &redeemed["total"]), (&json!("0.00"), &json!("10000000000000.00")));
    server.assert_invariants().await;
}

/// Invariant I-84.
#[tokio::test(flavor = "multi_thread")]
async fn a_discount_that_is_not_for_the_amount_is_a_problem_with_its_limits() {
    let limited =
        json!({"type": "PERCENT", "value": 50, "currency": "EUR", "minAmount": "20", "maxDiscount": "15"});
    let (server, book) = selling(limited, &["LIMIT-1"]).await;
    let (service, ann) = (server.service(), server.user("ann"));
    let shown = service.get(&format!("coupon-books/{book}")).await.expect(200)["discount"].clone();
    assert_eq!((&shown["minAmount"], &shown["maxDiscount"]), (&json!("20.00"), &json!("15.00")));
    for operation in ["lock", "validate", "redeem"] {
        let path = format!("coupons/LIMIT-1/{operation}");
        let problem = ann.post(&path, json!({})).await.expect(422);
        assert_eq!(problem["code"], "amount_required");
        let problem = ann.post(&path, json!({"amount": "49.90", "currency": "USD"})).await.expect(409);
        assert_eq!((&problem["code"], &problem["currency"]), (&json!("currency_mismatch"), &json!("EUR")));
        let problem = ann.post(&path, json!({"amount": "19.99", "currency": "EUR"})).await.expect(409);
        let limits = (&problem["code"], &problem["minAmount"], &problem["currency"]);
        assert_eq!(limits, (&json!("amount_too_small"), &json!("20.00"), &json!("EUR")));
    }
    let redeemed =
        ann.post("coupons/LIMIT-1/redeem", json!({"amount": "49.90", "currency": "EUR"})).await.expect(200);
    assert_eq!((&redeemed["discount"], &redeemed["total"]), (&json!("15.00"), &json!("34.90")));
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_discount_of_a_book_is_checked_when_it_is_made_and_when_it_is_changed() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let (admin, draft) = (server.admin(), server.draft(json!({})).await);
    let percent = |rest: Value| {
        let mut discount = json!({"type": "PERCENT", "value": 10});
        discount.as_object_mut().expect("an object").extend(rest.as_object().cloned().expect("an object"));
        discount
    };
    for (field, discount) in [
        ("discount.value", percent(json!({"value": 10.00001}))),
        ("discount.value", json!({"type": "FIXED", "value": 2.505, "currency": "EUR"})),
        ("discount.value", json!({"type": "FIXED", "value": 2.5, "currency": "JPY"})),
        ("discount.value", json!({"type": "FIXED", "value": 1e14, "currency": "EUR"})),
        ("discount.currency", percent(json!({"currency": "XXX"}))),
        ("discount.currency", percent(json!({"minAmount": "20"}))),
        ("discount.currency", percent(json!({"maxDiscount": "20"}))),
        ("discount.minAmount", percent(json!({"currency": "EUR", "minAmount": 20}))),
        ("discount.minAmount", percent(json!({"currency": "EUR", "minAmount": "20.001"}))),
        ("discount.maxDiscount", percent(json!({"currency": "EUR", "maxDiscount": "0"}))),
        ("discount.maxDiscount", percent(json!({"currency": "EUR", "maxDiscount": "-1"}))),
    ] {
        let made = admin.post("coupon-books", json!({"name": "A", "discount": discount})).await.expect(422);
        let path = format!("coupon-books/{draft}");
        let changed = admin.patch(&path, json!({"discount": discount})).await.expect(422);
        for problem in [made, changed] {
            let fields: Vec<_> = problem["errors"].as_array().expect("errors").iter().collect();
            assert_eq!((fields.len(), &fields[0]["field"]), (1, &json!(field)), "{discount}: {problem}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_and_an_export_have_the_sums_of_each_currency() {
    let server = Server::start().await;
    let codes = ["SUM-1", "SUM-2", "SUM-3", "SUM-4"];
    let book = book_of(&server, json!({"type": "PERCENT", "value": 10}), &codes).await;
    let admin = server.admin();
    let sales = [
        json!({"amount": "49.90", "currency": "EUR"}),
        json!({"amount": "100", "currency": "EUR"}),
        json!({"amount": "500", "currency": "JPY"}),
        json!({}),
    ];
    let mut last = Value::Null;
    for (code, mut body) in codes.into_iter().zip(sales) {
        body["userId"] = json!("ann");
        let redeemed = admin.post(&format!("coupons/{code}/redeem"), body).await.expect(200);
        last = if code == "SUM-2" { redeemed["redemptionId"].clone() } else { last };
    }
    let path = format!("redemptions/{}/rollback", last.as_str().expect("an id"));
    admin.post(&path, json!({"reason": "returned"})).await.expect(200);
    let none = |zero: &str| json!({"redemptions": 0, "amount": zero, "discount": zero, "total": zero});
    let expected = json!([
        {"currency": "EUR",
         "redeemed": {"redemptions": 2, "amount": "149.90", "discount": "14.99", "total": "134.91"},
         "rolledBack": {"redemptions": 1, "amount": "100.00", "discount": "10.00", "total": "90.00"}},
        {"currency": "JPY",
         "redeemed": {"redemptions": 1, "amount": "500", "discount": "50", "total": "450"},
         "rolledBack": none("0")},
    ]);
    for path in [format!("coupon-books/{book}/stats"), "stats".to_owned()] {
        eventually("the roll-up", async || {
            let found = admin.get(&path).await.expect(200);
            (found["amounts"] == expected).then_some(())
        })
        .await;
    }
    let job = admin.post("exports", json!({"kind": "REDEMPTIONS", "couponBookId": book})).await.expect(202);
    let job = wait_for_job(&admin, &id_of(&job)).await;
    assert_eq!(job["result"]["amounts"], expected, "{job}");
    let file = admin.get(&format!("jobs/{}/file", id_of(&job))).await.text;
    let header = "id,code,couponBookId,userId,useNumber,reference,redeemedAt,rolledBackAt,amount,discount,total,currency";
    assert_eq!(file.lines().next(), Some(header));
    let mut ends: Vec<String> =
        file.lines().skip(1).map(|line| line.split(',').skip(8).collect::<Vec<_>>().join(",")).collect();
    ends.sort_unstable();
    assert_eq!(ends, [",,,", "100.00,10.00,90.00,EUR", "49.90,4.99,44.91,EUR", "500,50,450,JPY"]);
    let codes = admin.post("exports", json!({"kind": "CODES", "couponBookId": book})).await.expect(202);
    let codes = wait_for_job(&admin, &id_of(&codes)).await;
    assert_eq!(codes["result"].get("amounts"), None);
    server.assert_invariants().await;
}
