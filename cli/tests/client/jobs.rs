//! `cuponera jobs`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::world::mode;
use super::{World, finish};

/// Submits a long job. Returns its id.
fn long_job(world: &World) -> String {
    let (_, id) = world.book(&[]);
    let job = world.json(&["generate", "--book", &id, "--quantity", "20000000", "--no-wait"]);
    job["id"].as_str().expect("an id").to_owned()
}

fn spawn(world: &World, words: &[&str]) -> Child {
    let mut command = world.command(words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starting cuponera failed")
}

fn interrupt(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::INT).expect("the process is gone");
}

#[tokio::test]
async fn ctrl_c_ends_the_watching_and_not_the_job_and_cancelling_ends_both() {
    let world = World::new().await;
    let id = long_job(&world);
    let mut watching = spawn(&world, &["jobs", "watch", &id, "--json"]);
    let mut lines = BufReader::new(watching.stdout.take().expect("a pipe")).lines();
    lines.next().expect("a first line").expect("it cannot be read");
    interrupt(&watching);
    finish(watching).fails(130, &["the job continues", &format!("cuponera jobs watch {id}")]);
    assert!(
        ["QUEUED", "RUNNING"]
            .contains(&world.json(&["jobs", "show", &id])["status"].as_str().expect("a status"))
    );
    let mut watching = spawn(&world, &["jobs", "watch", &id, "--json"]);
    let mut lines = BufReader::new(watching.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    lines.next().expect("a first line");
    world.run(&["jobs", "cancel", &id]).prints(&["is cancelled"]);
    let last: Value = serde_json::from_str(&lines.last().expect("a last line")).expect("no document");
    assert_eq!(last["status"], "CANCELLED");
    finish(watching).fails(5, &["was cancelled"]);
    world.run(&["jobs", "cancel", &id]).fails(3, &["wrong_job_state"]);
    world.run(&["jobs", "watch", &id]).fails(5, &["was cancelled"]);
    world.run(&["jobs", "show", &id]).prints(&["CANCELLED"]);
}

#[tokio::test]
async fn a_reader_who_has_gone_ends_the_watching_quietly() {
    let world = World::new().await;
    let id = long_job(&world);
    let mut watching = spawn(&world, &["jobs", "watch", &id, "--json"]);
    drop(watching.stdout.take());
    let ran = finish(watching);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    world.run(&["jobs", "cancel", &id]).prints(&["is cancelled"]);
}

#[tokio::test]
async fn a_job_is_watched_to_its_end_a_document_a_line() {
    let world = World::new().await;
    let (_, id) = world.book(&[]);
    let job = world.json(&["generate", "--book", &id, "--quantity", "60000", "--no-wait"]);
    let id = job["id"].as_str().expect("an id");
    let ran = world.run(&["jobs", "watch", id, "--json"]);
    let lines: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("no document")).collect();
    assert_eq!((ran.code, &lines.last().expect("a line")["status"]), (0, &"SUCCEEDED".into()));
    let listed =
        world.json(&["jobs", "list", "--status", "succeeded", "--kind", "GENERATE_CODES", "--limit", "500"]);
    assert!(listed["data"].as_array().expect("a list").iter().any(|job| job["id"] == id));
    world.run(&["jobs", "list"]).prints(&["KIND", "STATUS"]);
    world.run(&["jobs", "watch", id]).prints(&["SUCCEEDED", "60,000"]);
    world.run(&["jobs", "retry", id]).fails(3, &["wrong_job_state"]);
    world.run(&["jobs", "show", "01a20000-0000-7000-8000-000000000000"]).fails(3, &["not_found"]);
}

#[tokio::test]
async fn what_a_job_refused_is_printed_or_written() {
    let world = World::new().await;
    let (name, _) = world.book(&[]);
    world.write("codes.csv", "x\ny\n");
    let job = world.json(&["import", "codes.csv", "--book", &name]);
    let id = job["id"].as_str().expect("an id");
    let ran = world.run(&["jobs", "errors", id]);
    ran.prints(&["line,code,reason,row,detail\n1,x,too_short,x,the code is shorter than 3 characters\n"]);
    world.run(&["jobs", "errors", id, "--output", "refused.csv"]).prints(&[]);
    assert_eq!(std::fs::read_to_string(world.path("refused.csv")).expect("no file"), ran.stdout);
    assert_eq!(mode(&world.path("refused.csv")), 0o600);
    world.run(&["jobs", "errors", id, "--json"]).fails(1, &["CSV"]);
}
