//! `cuponera import`: counts, errors files, standard input, memory.

use std::process::Stdio;
use std::time::Duration;

use super::world::{mode, run_reading};
use super::{World, finish};

fn rows(prefix: &str, count: usize) -> String {
    (0..count).fold("code,userId\n".to_owned(), |text, row| text + &format!("{prefix}-{row:05},\n"))
}

#[tokio::test]
async fn a_file_goes_in_and_what_was_refused_is_counted_and_written_down() {
    let world = World::new().await;
    let (name, id) = world.book(&[]);
    let file = world.write("codes.csv", rows(&id[24..], 200) + &format!("{}-00007,\nx!,\n", &id[24..]));
    let (file, errors) = (file.to_str().expect("a path"), world.path("refused.csv"));
    let words = ["import", file, "--book", &name, "--errors", errors.to_str().expect("a path")];
    let dry = world.run(&[&words[..4], &["--dry-run"]].concat());
    dry.prints(&["Would be imported  200", "Duplicates", "cuponera jobs errors "]);
    assert_eq!(world.json(&["books", "show", &id])["generatedCount"], 0, "a dry run imported codes");
    let ran = world.run(&words);
    ran.prints(&["Imported", "200 in ", "Duplicates    1", "Invalid rows  1", "in "]);
    assert_eq!(world.json(&["books", "show", &id])["generatedCount"], 200);
    let fails = std::fs::read_to_string(&errors).expect("no errors file");
    let lines: Vec<&str> = fails.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "line,code,reason,row,detail"));
    assert!(
        lines[1].starts_with("202,") && lines[1].contains("duplicate") && lines[2].starts_with("203,"),
        "{fails}"
    );
    assert_eq!(mode(&errors), 0o600, "the errors file must be private");
}

#[tokio::test]
async fn standard_input_goes_in_too_and_json_is_the_job() {
    let world = World::new().await;
    let (name, id) = world.book(&[]);
    let ran = run_reading(
        &mut world.command(&["import", "-", "--book", &name, "--json", "--quiet"]),
        rows(&id[24..], 50).as_bytes(),
    );
    let job = ran.json();
    assert_eq!(
        (ran.code, &job["status"], &job["result"]["uploadedCount"]),
        (0, &"SUCCEEDED".into(), &50.into())
    );
    assert_eq!(ran.stderr, "");
    let under_way = run_reading(
        &mut world.command(&["import", "-", "--book", &id, "--no-wait"]),
        rows("LATER", 5).as_bytes(),
    );
    under_way.prints(&["is submitted", "cuponera jobs watch "]);
}

#[tokio::test]
async fn a_file_that_cannot_go_in_is_refused_with_its_reason() {
    let world = World::new().await;
    let (name, _) = world.book(&[]);
    let open_quote = format!("code\n\"ABC-1\n{}", "x".repeat(70_000));
    for (file, text, code, prints) in [
        ("quote.csv", Some(open_quote.as_str()), 3, "line 2"),
        ("empty.csv", Some(""), 3, "no rows"),
        ("absent.csv", None, 1, "absent.csv"),
        (".", None, 1, "folder"),
    ] {
        if let Some(text) = text {
            world.write(file, text);
        }
        let ran = world.run(&["import", file, "--book", &name]);
        ran.fails(code, &[prints]);
        assert_eq!(ran.stdout, "");
    }
    world.write("good.csv", "ABC-1\n");
    world.run(&["import", "good.csv", "--book", "no such book"]).fails(3, &["no book is named"]);
    world
        .run(&["import", "good.csv", "--book", "01a20000-0000-7000-8000-000000000000"])
        .fails(3, &["not_found"]);
    world
        .run(&["import", "good.csv", "--book", &name, "--errors", "no/such/folder"])
        .fails(1, &["no/such/folder"]);
}

#[tokio::test]
async fn the_file_itself_is_never_taken_for_the_errors_file() {
    let world = World::new().await;
    let (name, _) = world.book(&[]);
    let file = world.write("codes.csv", "ABC-1\n");
    std::os::unix::fs::symlink(&file, world.path("link.csv")).expect("creating a link failed");
    for errors in ["codes.csv", "./codes.csv", "link.csv"] {
        world.run(&["import", "codes.csv", "--book", &name, "--errors", errors]).fails(1, &["--errors"]);
    }
    assert_eq!(std::fs::read_to_string(file).expect("it is gone"), "ABC-1\n");
}

/// The peak resident memory of a process, if it runs.
fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[tokio::test]
async fn a_large_file_is_never_held_in_memory() {
    const MEBIBYTES: usize = 96;
    let world = World::new().await;
    let (name, _) = world.book(&[]);
    // The last record is too long, so that the file is rejected and nothing is imported.
    let row = "a-cell-of-no-code,".repeat(56) + "\n";
    let text = row.repeat(MEBIBYTES * 1024 * 1024 / row.len()) + "\"" + &"x".repeat(70_000);
    world.write("large.csv", text);
    let mut command = world.command(&["import", "large.csv", "--book", &name]);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starting cuponera failed");
    let mut peak = 0;
    while child.try_wait().expect("waiting failed").is_none() {
        peak = peak_kib(child.id()).unwrap_or(peak);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    finish(child).fails(3, &["record_too_long"]);
    assert!((1..MEBIBYTES as u64 * 1024 / 2).contains(&peak), "{peak} KiB");
}
