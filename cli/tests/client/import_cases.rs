//! The import cases of `testkit`, run with `cuponera import`.

use cuponera_testkit::{Expected, import_files};

use super::World;

#[tokio::test]
async fn files_are_imported_or_refused_as_over_http() {
    let world = World::new().await;
    for (number, case) in import_files().iter().enumerate() {
        // A prefix of two letters that the codes of no other test have.
        let case = case.with_prefix(&format!("Y{}", char::from(b'A' + u8::try_from(number % 26).unwrap())));
        let limit = case.max_codes_per_user.map(|limit| limit.to_string());
        let options = limit.as_deref().map_or(vec![], |limit| vec!["--max-codes-per-user", limit]);
        let (name, id) = world.book(&options);
        let (file, errors) = (world.write("case.csv", &case.file), world.path("case-errors.csv"));
        let words = ["import", file.to_str().unwrap(), "--book", &name, "--errors", errors.to_str().unwrap()];
        let ran = world.run(&words);
        match (&case.expected, case.expected.counts()) {
            (Expected::Rejected(code), _) => ran.fails(3, &[code]),
            (Expected::Imported(_, rejects), Some(counts)) => {
                let last = ran.stdout.lines().last().unwrap_or_default();
                let codes = if counts.uploaded == 1 { "code" } else { "codes" };
                assert!(
                    last.starts_with(&format!("{} {codes} imported", counts.uploaded)),
                    "{}: {last}",
                    case.name
                );
                assert_eq!(ran.code, 0, "{}: {last}", case.name);
                assert_eq!(last.contains("case-errors.csv"), !rejects.is_empty(), "{}: {last}", case.name);
                assert_eq!(last.contains("without the user"), counts.unassigned > 0, "{}: {last}", case.name);
                assert!(ran.stdout.contains("Read as"), "{}", ran.stdout);
                let fails = std::fs::read_to_string(&errors).unwrap();
                let lines = csv_lines(&fails);
                assert_eq!(lines, rejects.iter().map(|(line, _)| *line).collect::<Vec<_>>(), "{}", case.name);
                let made = world.json(&["books", "show", &id])["generatedCount"].as_u64();
                assert_eq!(made, Some(counts.uploaded as u64), "{}", case.name);
            }
            (Expected::Imported(..), None) => unreachable!(),
        }
    }
}

/// The first cell of each row.
fn csv_lines(text: &str) -> Vec<u64> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let line = |record: csv::StringRecord| record[0].parse().expect("a line");
    reader.records().map(|record| line(record.expect("a row of CSV"))).collect()
}

#[tokio::test]
async fn a_dry_run_shows_how_the_file_is_read_and_options_settle_it() {
    let world = World::new().await;
    let (name, _) = world.book(&[]);
    world.write("unclear.csv", "Tarjeta;Quien\nYZ1;ana\nYZ2;\n");
    let words = ["import", "unclear.csv", "--book", &name];
    world.run(&words).fails(3, &["unclear_header", "--header", "Tarjeta"]);
    let settled = ["--dry-run", "--header", "true", "--code-column", "tarjeta", "--user-column", "2"];
    let ran = world.run(&[&words[..], &settled].concat());
    ran.prints(&[
        "delimiter \";\", header; codes in \"Tarjeta\", users in \"Quien\"",
        "First rows",
        "YZ1",
        "2 codes would be imported",
    ]);
    assert_eq!(ran.code, 0);
}
