//! `cuponera pools`, `distribute`, `take-back` and `assign-file`: users go in, codes are distributed to them, and the report has a line for each.

use super::World;
use super::world::run_reading;

#[tokio::test]
async fn users_of_a_file_get_codes_and_the_report_has_a_line_for_each() {
    let world = World::new().await;
    let (book, id) = world.book(&[]);
    world.codes(&book, 10);
    let pool = format!("Pool {}", &id[24..]);
    world.run(&["pools", "create", &pool, "--description", "A test"]).prints(&[&pool, "pools import"]);
    world.run(&["pools", "create", &pool]).fails(3, &["name_taken"]);
    world.run(&["pools", "add", &pool, "ana", "eva"]).prints(&["2 added, 0 already in the pool"]);
    let ran = run_reading(
        &mut world.command(&["pools", "import", &pool, "-"]),
        b"userId\neva\nleo\n\xe2\x80\x8b,\n",
    );
    ran.prints(&["1 users added", "1 already in the pool", "1 rows rejected", "cuponera jobs errors "]);
    world.run(&["pools", "users", &pool]).prints(&["ana", "eva", "leo"]);
    world.run(&["pools", "list"]).prints(&[&pool]);
    let words = ["distribute", "--book", &book, "--pool", &pool, "--mode", "equal", "--codes-per-user", "2"];
    world.run(&[&words[..], &["--dry-run"]].concat()).prints(&["Codes needed", "6", "2 to 2"]);
    let job = world.json(&[&words[..], &["--seed", "7"]].concat());
    assert_eq!((&job["status"], &job["result"]["given"]), (&"SUCCEEDED".into(), &6.into()));
    let report = world.run(&["jobs", "report", job["id"].as_str().expect("an id")]);
    report.prints(&["userId,given,codes,note", "ana,2,", "leo,2,"]);
    world.run(&words).fails(3, &["not_enough_codes"]);
    let id = job["id"].as_str().expect("an id");
    let held = world.json(&["codes", "list", "--book", &book, "--status", "assigned"]);
    let [code, user] = ["code", "userId"].map(|name| held["data"][0][name].as_str().expect("a text"));
    world.run(&["redeem", code, "--user", user]);
    let ran = world.run(&["take-back", id, "--reason", "wrong pool"]);
    ran.prints(&["Took back 5 codes", "1 were used"]);
    world.run(&["take-back", id]).prints(&["Took back 0 codes", "5 were taken back"]);
    world.run(&["pools", "remove", &pool, "ana"]).prints(&["1 removed"]);
    world.run(&["pools", "delete", &pool]).prints(&["is deleted"]);
    world.run(&["pools", "show", &pool]).fails(3, &["no pool is named"]);
}

#[tokio::test]
async fn existing_codes_are_assigned_by_a_file() {
    let world = World::new().await;
    let (book, _) = world.book(&[]);
    world.codes(&book, 3);
    let codes = world.json(&["codes", "list", "--book", &book]);
    let code = |n: usize| codes["data"][n]["code"].as_str().expect("a code").to_owned();
    let file = format!(
        "Code;Customer ID;Note\n{};ana;first\n{};eva;\n{};;\nNO-SUCH-CODE;leo;\n",
        code(0),
        code(1),
        code(2)
    );
    let run = |words: &[&str]| run_reading(&mut world.command(words), file.as_bytes());
    let words = ["assign-file", "-", "--book", &book];
    run(&[&words[..], &["--dry-run"]].concat())
        .prints(&["Would be assigned", "2 codes would be assigned; 2 rows rejected"]);
    run(&words).prints(&[
        "users in \"Customer ID\"",
        "2 codes assigned; 2 rows rejected: see cuponera jobs errors ",
    ]);
    run(&words).prints(&["Held by their users before", "0 codes assigned; 2 rows rejected"]);
    assert_eq!(world.json(&["codes", "show", &code(0)])["userId"], "ana");
}
