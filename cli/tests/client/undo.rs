//! `cuponera revoke`, `rollback`, `void`, `redemptions` and `books clone`.

use super::World;

#[tokio::test]
async fn a_code_is_taken_back_and_a_redemption_is_rolled_back_once() {
    let world = World::new().await;
    let (name, _) = world.book(&["--max-codes-per-user", "1"]);
    world.codes(&name, 3);
    let given = world.json(&["assign", "--book", &name, "--user", "ana"]);
    let code = given["code"].as_str().expect("a code");
    world.run(&["revoke", code]).fails(2, &["--reason"]);
    world.run(&["revoke", code, "--reason", "test", "--user", "bob"]).fails(3, &["not_holder"]);
    world.run(&["revoke", code, "--reason", "mistake"]).prints(&[code, "free again"]);
    world.run(&["revoke", code, "--reason", "mistake"]).fails(3, &["not_assigned"]);
    world.run(&["history", code]).prints(&["REVOKE", "mistake"]);
    world.run(&["assign", code, "--user", "ana"]).prints(&[code]);
    let used = world.json(&["redeem", code, "--user", "ana", "--reference", "r1"]);
    let id = used["redemptionId"].as_str().expect("an id");
    world.run(&["redemptions", "--book", &name]).prints(&[id, code, "r1"]);
    world.run(&["rollback", id, "--reason", "returned"]).prints(&[code, "ASSIGNED", "0 of 1"]);
    world.run(&["rollback", id, "--reason", "returned"]).fails(3, &["already_rolled_back"]);
    assert!(world.json(&["redemptions", id])["rolledBackAt"].is_string());
    let of_ana = world.json(&["redemptions", "--user", "ana", "--reference", "r1"]);
    assert_eq!(of_ana["data"][0]["id"], id);
}

#[tokio::test]
async fn codes_are_voided_by_name_by_list_by_job_and_by_book() {
    let world = World::new().await;
    let (name, id) = world.book(&[]);
    let ran = world.json(&["generate", "--book", &name, "--quantity", "20"]);
    let job = ran["id"].as_str().expect("a job");
    let codes = world.json(&["codes", "list", "--book", &name]);
    let code = |n: usize| codes["data"][n]["code"].as_str().expect("a code");
    world.run(&["void", code(0), "--reason", "leaked"]).prints(&[code(0), "is void"]);
    world.run(&["void", code(0), "--reason", "leaked"]).prints(&[code(0), "is void"]);
    let list = world.run(&["void", code(1), code(2), "NO-SUCH-CODE", "--reason", "leaked"]);
    list.prints(&["Voided 2 codes", "1 do not exist"]);
    world
        .run(&["void", "--book", &name, "--status", "assigned", "--reason", "x"])
        .prints(&["Voided 0 codes"]);
    let preview = world.run(&["void", "--job", job, "--reason", "wrong", "--dry-run"]);
    preview.prints(&["To be voided", "17", "Void already", "3"]);
    world.run(&["void", "--job", job, "--reason", "wrong"]).prints(&["Voided 17 codes"]);
    assert_eq!(world.json(&["books", "show", &id])["counts"]["void"], 20);
    world.run(&["void", "--reason", "x"]).fails(2, &["--book"]);
}

#[tokio::test]
async fn a_clone_has_the_rules_and_another_name() {
    let world = World::new().await;
    let (name, _) = world.book(&["--max-codes-per-user", "3", "--code-valid-days", "30"]);
    let clone = world.json(&["books", "clone", &name]);
    assert_eq!(clone["name"], format!("{name} (copy)"));
    assert_eq!((&clone["maxCodesPerUser"], &clone["codeValidDays"]), (&3.into(), &30.into()));
    assert_eq!(clone["status"], "DRAFT");
    let other = format!("{name} again");
    assert_eq!(world.json(&["books", "clone", &name, "--name", &other])["name"], other);
}
