//! Closed pipes, completions and help pages.

use std::process::Stdio;

use super::{World, finish, run};
use crate::support::cuponera;

#[tokio::test]
async fn a_reader_who_has_gone_is_no_fault() {
    let world = World::new().await;
    let (_, id) = world.book(&[]);
    world.codes(&id, 100);
    let list = ["codes", "list", "--book", &id, "--limit", "500"];
    let commands: [&[&str]; 5] =
        [&list, &[&list[..], &["--json"]].concat(), &["completions", "bash"], &["openapi"], &["doctor"]];
    for words in commands {
        let mut command = world.command(words);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starting cuponera failed");
        drop(child.stdout.take());
        let ran = finish(child);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{words:?}");
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("there is no /dev/full");
    let child =
        world.command(&list).stdout(full).stderr(Stdio::piped()).spawn().expect("starting cuponera failed");
    finish(child).fails(1, &["standard output"]);
}

#[test]
fn each_shell_gets_its_completions() {
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef cuponera"), ("fish", "complete -c cuponera")]
    {
        let ran = run(cuponera().args(["completions", shell]));
        ran.prints(&[word, "import", "no-wait", "doctor"]);
    }
    run(cuponera().args(["completions", "abacus"])).fails(2, &["bash"]);
}

#[test]
fn every_help_page_tells_what_the_exit_statuses_mean() {
    let pages = [
        "", "login", "logout", "whoami", "books", "generate", "import", "codes", "capacity", "assign",
        "lock", "unlock", "redeem", "validate", "history", "jobs", "doctor",
    ];
    for page in pages {
        let words = page.split_whitespace().chain(["--help"]);
        run(cuponera().args(words).env("CUPONERA_API_KEY", "a-secret"))
            .prints(&["Usage: cuponera", "Exit status:"]);
    }
    let help = run(cuponera().args(["jobs", "--help"]).env("CUPONERA_API_KEY", "a-secret"));
    assert!(!help.stdout.contains("a-secret"));
}
