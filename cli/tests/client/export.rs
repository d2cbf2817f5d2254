//! `cuponera export`: a file for each kind, and a download that continues.

use super::World;
use super::world::mode;

#[tokio::test]
async fn an_export_is_written_to_a_file_and_a_partial_download_is_continued() {
    let world = World::new().await;
    let (name, _) = world.book(&[]);
    let codes = world.codes(&name, 20);
    let given = world.json(&["assign", "--book", &name, "--user", "+34600"]);
    let code = given["code"].as_str().expect("a code");
    let link = "https://shop.example/c/{code}";
    let ran = world.run(&["export", "codes", "--book", &name, "--link-template", link, "--out", "codes.csv"]);
    ran.prints(&["Exported 20 rows"]);
    let text = std::fs::read_to_string(world.path("codes.csv")).expect("the file is not written");
    assert_eq!((text.lines().count(), mode(&world.path("codes.csv"))), (21, 0o600));
    assert!(codes.iter().all(|code| text.contains(&format!(",https://shop.example/c/{code}\r\n"))));
    assert!(text.contains(&format!("{code},ASSIGNED,'+34600,")), "{text}");
    let job = world.json(&["export", "codes", "--book", &name, "--no-wait"]);
    let job = job["id"].as_str().expect("an id");
    world.run(&["jobs", "watch", job]).prints(&["SUCCEEDED"]);
    // An earlier download has ended after 100 bytes, or after all.
    world.run(&["export", "--job", job, "--out", "whole.csv"]).prints(&["Exported 20 rows"]);
    let whole = std::fs::read(world.path("whole.csv")).expect("the file is not written");
    for there in [100, whole.len()] {
        world.write(&format!("again.csv.{job}.part"), &whole[..there]);
        world.run(&["export", "--job", job, "--out", "again.csv"]).prints(&["Exported 20 rows"]);
        assert!(std::fs::read(world.path("again.csv")).expect("the file is not written") == whole);
        assert!(!world.path(&format!("again.csv.{job}.part")).exists());
    }
    let held = world.json(&["export", "assignments", "--book", &name, "--out", "held.csv"]);
    assert_eq!(held["result"]["rowCount"], 1);
    world.run(&["export", "events", "--status", "void", "--out", "x.csv"]).fails(3, &["status"]);
    world.run(&["export", "codes"]).fails(2, &["--out"]);
    world.run(&["export", "--out", "x.csv"]).fails(2, &["KIND"]);
}
