//! `cuponera assign`, `lock`, `unlock`, `redeem`, `validate`, `history`, `generate` and `capacity`.

use super::World;

#[tokio::test]
async fn a_code_is_given_locked_redeemed_and_its_history_tells_all_of_it() {
    let world = World::new().await;
    let (name, _) = world.book(&["--max-redeems-per-user", "2"]);
    world.codes(&name, 3);
    let assign = ["assign", "--book", &name, "--user", "ana", "--recipient-key", "mail 1"];
    let given = world.json(&assign);
    let code = given["code"].as_str().expect("a code");
    world.run(&assign).prints(&[code, "ana"]);
    world.run(&["assign", code, "--user", "ana"]).prints(&[code, "ana"]);
    world.run(&["assign", code, "--user", "bob"]).fails(3, &["already_assigned"]);
    world.run(&["validate", code, "--user", "ana"]).prints(&["could be redeemed", "ASSIGNED"]);
    let lock = world.json(&["lock", code, "--user", "ana", "--ttl", "600"]);
    let lock_id = lock["lockId"].as_str().expect("a lock");
    world.run(&["lock", &code.to_lowercase(), "--user", "ana"]).prints(&["is locked until", lock_id]);
    world.run(&["lock", code, "--user", "bob"]).fails(3, &["coupon_locked"]);
    world.run(&["unlock", code, "--user", "ana", "--lock-id", lock_id]).prints(&["is not locked"]);
    world.run(&["redeem", code, "--user", "ana", "--lock-id", lock_id]).fails(3, &["lock_expired, 410"]);
    world
        .run(&["redeem", code, "--user", "ana", "--reference", "r1"])
        .prints(&["use 1 of 2", "Redemption id"]);
    world
        .run(&["redeem", code, "--user", "ana", "--reference", "r1"])
        .prints(&["was redeemed with this reference before", "use 1 of 2"]);
    let last = world.json(&["redeem", code, "--user", "ana"]);
    assert_eq!((&last["isFinalRedeem"], &last["status"]), (&true.into(), &"REDEEMED".into()));
    world.run(&["redeem", code, "--user", "ana"]).fails(3, &["coupon_already_redeemed"]);
    world.run(&["codes", "show", code]).prints(&["REDEEMED", "ana"]);
    let history = world.json(&["history", code]);
    let actions: Vec<_> =
        history["data"].as_array().expect("a list").iter().map(|event| &event["action"]).collect();
    assert_eq!(actions, ["REDEEM", "REDEEM", "UNLOCK", "LOCK", "LOCK", "ASSIGN"]);
    world.run(&["history", code]).prints(&["ACTION", "ASSIGN", "REDEEM"]);
}

#[tokio::test]
async fn a_code_of_a_bearer_book_is_redeemed_without_a_user_or_by_the_first_user_who_presents_it() {
    let world = World::new().await;
    let (name, _) = world.book(&["--code-kind", "bearer", "--max-codes-per-user", "1"]);
    world.run(&["books", "show", &name]).prints(&["Kind of codes", "BEARER"]);
    let codes = world.codes(&name, 3);
    world.run(&["validate", &codes[0]]).prints(&["could be redeemed", "AVAILABLE"]);
    world.run(&["redeem", &codes[0]]).prints(&["use 1 of 1"]);
    world.run(&["codes", "show", &codes[0]]).prints(&["REDEEMED", &format!("bearer:{}", codes[0])]);
    world.run(&["redeem", &codes[1], "--user", "ana"]).prints(&["use 1 of 1"]);
    world.run(&["redeem", &codes[2], "--user", "ana"]).fails(3, &["user_limit_reached"]);
    world.run(&["history", &codes[1]]).prints(&["ASSIGN", "REDEEM", "ana"]);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_its_reason() {
    let world = World::new().await;
    let (name, _) = world.book(&[]);
    world.run(&["assign", "--book", &name, "--user", "ana"]).fails(3, &["sold_out"]);
    world.run(&["assign", "--book", &name]).fails(3, &["userId: is required"]);
    world.run(&["redeem", "NO-SUCH-CODE", "--user", "ana"]).fails(3, &["not_found"]);
    world.run(&["history", "NO-SUCH-CODE"]).fails(3, &["not_found"]);
    let exhausted =
        world.run(&["generate", "--book", &name, "--quantity", "11", "--pattern", "ONE-{9}", "--json"]);
    exhausted.fails(3, &["pattern_exhausted"]);
    assert_eq!(exhausted.json()["remaining"], 10);
}

#[tokio::test]
async fn a_command_line_that_cannot_be_meant_is_refused_before_anything_is_sent() {
    let world = World::new().await;
    for (words, prints) in [
        (&["redeem", "../books", "--user", "ana"][..], "only letters"),
        (&["assign", "--user", "ana"], "--book"),
        (&["assign", "ABC-1", "--book", "x", "--user", "ana"], "cannot be used"),
        (&["assign", "ABC-1", "--recipient-key", "x", "--user", "ana"], "cannot be used"),
        (&["redeem", "ABC-1", "--lock-id", "x"], "--lock-id"),
        (&["generate", "--book", "x", "--quantity", "many"], "many"),
        (&["jobs", "watch", "x"], "<ID>"),
        (&["books", "create", "x", "--discount", "ten"], "10%"),
    ] {
        let ran = world.run(words);
        ran.fails(2, &[prints]);
        assert_eq!(ran.stdout, "");
    }
}

#[tokio::test]
async fn codes_are_made_while_the_command_waits_and_a_pattern_tells_what_it_has_left() {
    let world = World::new().await;
    let (name, id) = world.book(&[]);
    let pattern = format!("T{:X}-{{999}}", rand::random::<u32>());
    let ran = world.run(&["generate", "--book", &name, "--quantity", "100", "--pattern", &pattern]);
    ran.prints(&["Generated 100 codes in ", &pattern[..4]]);
    assert!(ran.stderr.contains("careful: ") && ran.stderr.contains("guessable_codes"), "{ran:?}");
    let capacity = world.json(&["capacity", "--book", &id, "--pattern", &pattern]);
    assert_eq!((&capacity["used"], &capacity["remaining"]), (&100.into(), &900.into()));
    world.run(&["capacity", "--book", &name, "--pattern", &pattern]).prints(&["Remaining", "900"]);
    assert_eq!(world.json(&["books", "show", &id])["generatedCount"], 100);
}

#[tokio::test]
async fn a_code_of_a_shared_book_is_created_used_by_many_users_changed_and_suspended() {
    let world = World::new().await;
    let (name, _) = world.book(&["--code-kind", "shared"]);
    let create = ["codes", "create", "radio-26", "--book", &name, "--max-redemptions", "3", "--metadata", "{\"a\":1}"];
    world.run(&create).prints(&["RADIO-26", "SHARED", "Uses allowed in total"]);
    world.run(&create).fails(3, &["code_exists"]);
    world.run(&["redeem", "RADIO-26", "--user", "ana"]).prints(&["use 1 of 3"]);
    world.run(&["redeem", "RADIO-26", "--user", "ana"]).fails(3, &["redeem_limit_reached"]);
    world.run(&["lock", "RADIO-26", "--user", "bob"]).prints(&["is locked until"]);
    world.run(&["codes", "show", "RADIO-26", "--user", "bob"]).prints(&["Uses locked", "Locked by the user until"]);
    world.run(&["codes", "change", "RADIO-26", "--max-redemptions", "1"]).fails(3, &["at least 2"]);
    world.run(&["codes", "change", "RADIO-26", "--no-max-redemptions", "--suspend"]).prints(&["RADIO-26"]);
    world.run(&["redeem", "RADIO-26", "--user", "eva"]).fails(3, &["coupon_suspended"]);
    world.run(&["codes", "change", "RADIO-26", "--resume"]).prints(&["RADIO-26"]);
    world.run(&["redeem", "RADIO-26", "--user", "eva"]).prints(&["use 2"]);
    world.run(&["history", "RADIO-26"]).prints(&["UPDATE", "LOCK", "REDEEM"]);
    world.run(&["codes", "list", "--book", &name]).prints(&["RADIO-26"]);
    world.run(&["codes", "change", "RADIO-26"]).fails(2, &["--suspend"]);
}
