//! The guarantees of a file store, tested on a folder and on a bucket.

#![expect(clippy::unwrap_used, reason = "a test fails on an unexpected error")]

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::TimeDelta;
use cuponera_domain::id::JobId;
use cuponera_platform::files::{Files, FoundIn};
use cuponera_store::GenerateId;
use cuponera_testkit::{Emulator, TestBucket};
use futures::TryStreamExt;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A file store.
enum Place {
    Folder(TempDir),
    Bucket(TestBucket),
}

impl Place {
    fn files(&self) -> Files {
        match self {
            Self::Folder(folder) => Files::in_folder(folder.path()).unwrap(),
            Self::Bucket(bucket) => Files::in_bucket(bucket.client(), bucket.name(), "shop/one").unwrap(),
        }
    }
}

/// An empty folder and an empty bucket.
async fn places() -> [Place; 2] {
    [Place::Folder(TempDir::new().unwrap()), Place::Bucket(Emulator::get().await.bucket().await)]
}

/// More bytes than any buffer has.
fn large() -> Bytes {
    (0..6_000_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect::<Vec<_>>().into()
}

async fn streamed(files: &Files, name: &str) -> (usize, Vec<u8>) {
    let pieces: Vec<Bytes> = files.stream(name).await.unwrap().try_collect().await.unwrap();
    (pieces.len(), pieces.concat())
}

#[tokio::test]
async fn a_file_is_read_as_it_was_written_whole_and_piece_by_piece_by_whoever_opens_the_place() {
    for place in places().await {
        let name = Files::part_name(JobId::generate(), 0);
        place.files().put(&name, large()).await.unwrap();
        assert_eq!(place.files().get(&name).await.unwrap(), large());
        let (pieces, bytes) = streamed(&place.files(), &name).await;
        assert!(pieces > 1 && bytes == large(), "{pieces} pieces");
        let empty = Files::errors_name(JobId::generate(), 0, 1);
        place.files().put(&empty, Bytes::new()).await.unwrap();
        assert_eq!(place.files().get(&empty).await.unwrap(), Bytes::new());
    }
}

#[tokio::test]
async fn a_file_that_is_written_again_is_the_later_one() {
    for place in places().await {
        let (files, name) = (place.files(), Files::errors_name(JobId::generate(), 3, 7));
        for text in ["code,line\nA,1\n", "code\n"] {
            files.put(&name, text.into()).await.unwrap();
            assert_eq!(files.get(&name).await.unwrap(), text);
        }
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_a_fault_and_not_an_outage() {
    for place in places().await {
        let (files, name) = (place.files(), Files::part_name(JobId::generate(), 0));
        assert!(!files.get(&name).await.unwrap_err().is_retryable());
        assert!(!files.stream(&name).await.err().unwrap().is_retryable());
    }
}

#[tokio::test]
async fn deleting_an_upload_takes_all_its_parts_and_nothing_else() {
    for place in places().await {
        let files = place.files();
        let (one, other) = (JobId::generate(), JobId::generate());
        let kept = [Files::part_name(other, 0), Files::errors_name(one, 0, 1)];
        for part in 0..25 {
            files.put(&Files::part_name(one, part), "A\n".into()).await.unwrap();
        }
        for name in &kept {
            files.put(name, "B\n".into()).await.unwrap();
        }
        // The second call finds no files.
        for _ in 0..2 {
            files.delete_upload(one).await.unwrap();
        }
        for part in 0..25 {
            assert!(files.get(&Files::part_name(one, part)).await.is_err(), "part {part} is left");
        }
        for name in &kept {
            assert_eq!(files.get(name).await.unwrap(), "B\n");
        }
    }
}

#[tokio::test]
async fn an_upload_is_as_old_as_its_newest_part() {
    for place in places().await {
        let files = place.files();
        assert_eq!(files.uploads_older_than(TimeDelta::zero()).await.unwrap(), []);
        let (one, other) = (JobId::generate(), JobId::generate());
        let write = async |job, part| files.put(&Files::part_name(job, part), "A\n".into()).await.unwrap();
        write(one, 0).await;
        write(other, 0).await;
        files.put(&Files::errors_name(JobId::generate(), 0, 1), "no upload".into()).await.unwrap();
        let mut all = vec![one, other];
        all.sort_unstable();
        // The times of S3 have whole seconds.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let mut old = files.uploads_older_than(TimeDelta::seconds(1)).await.unwrap();
        old.sort_unstable();
        assert_eq!(old, all);
        let begun = Instant::now();
        write(one, 1).await;
        let since = TimeDelta::from_std(begun.elapsed()).unwrap() + TimeDelta::milliseconds(1_200);
        assert_eq!(files.uploads_older_than(since).await.unwrap(), [other]);
        assert_eq!(files.uploads_older_than(TimeDelta::days(1)).await.unwrap(), []);
    }
}

#[tokio::test]
async fn the_parts_of_an_export_are_joined_in_their_order_and_ranges_are_read() {
    for place in places().await {
        let (files, job) = (place.files(), JobId::generate());
        let parts: Vec<String> = (0..3).map(|part| Files::export_part_name(job, part, 1)).collect();
        let contents = [large(), Bytes::new(), "end\n".into()];
        for (part, content) in parts.iter().zip(&contents) {
            files.put(part, content.clone()).await.unwrap();
        }
        let (name, whole) = (Files::export_name(job, 7), contents.concat());
        assert_eq!(files.join(&parts, &name).await.unwrap(), whole.len() as u64);
        assert!(files.get(&name).await.unwrap() == whole);
        for range in [0..1, 5_999_999..6_000_001, 17..2_500_000, 0..whole.len()] {
            let pieces =
                files.stream_range(&name, range.start as u64..range.end as u64).await.unwrap().unwrap();
            assert!(
                pieces.try_collect::<Vec<_>>().await.unwrap().concat() == whole[range.clone()],
                "{range:?}"
            );
        }
        files.delete_export_parts(job).await.unwrap();
        assert!(files.get(&parts[0]).await.is_err() && files.get(&name).await.is_ok());
        // A part that does not exist leaves no file behind.
        let short = Files::export_name(job, 8);
        assert!(!files.join(&parts, &short).await.unwrap_err().is_retryable());
        assert!(
            files.get(&short).await.is_err() && files.stream_range(&short, 0..1).await.unwrap().is_none()
        );
        assert_eq!(files.exports_older_than(TimeDelta::days(-1)).await.unwrap(), [job]);
        if let Place::Folder(folder) = &place {
            // As a process leaves it that ends while it writes.
            std::fs::write(folder.path().join(format!("{name}#1")), "incomplete").unwrap();
        }
        files.delete_export(job).await.unwrap();
        if let Place::Folder(folder) = &place {
            assert!(!folder.path().join(format!("exports/{job}")).exists());
        }
        assert_eq!(files.exports_older_than(TimeDelta::days(-1)).await.unwrap(), []);
    }
}

/// Invariant I-71.
#[tokio::test]
async fn a_text_is_found_in_the_upload_the_errors_files_and_the_export_of_its_job_alone() {
    type Name = fn(JobId) -> String;
    let found = |upload, errors, export| FoundIn { upload, errors, export };
    let text = ["ana".to_owned()];
    for place in places().await {
        let files = place.files();
        let cases: [(Name, FoundIn); 4] = [
            (|job| Files::part_name(job, 1), found(true, false, false)),
            (|job| Files::errors_name(job, 0, 2), found(false, true, false)),
            (|job| Files::export_part_name(job, 0, 1), found(false, false, true)),
            (|job| Files::export_name(job, 2), found(false, false, true)),
        ];
        for (name, expected) in cases {
            let job = JobId::generate();
            for other in [Files::part_name(job, 0), Files::errors_name(job, 0, 1), Files::export_name(job, 1)]
            {
                files.put(&other, "code,userId\nC1,eva\nC2,banana\n".into()).await.unwrap();
            }
            files.put(&Files::part_name(JobId::generate(), 0), "C1,ana\n".into()).await.unwrap();
            assert_eq!(files.search(job, &text).await.unwrap(), FoundIn::default());
            files.put(&name(job), "code,userId\nC1,eva\nC2,ana\n".into()).await.unwrap();
            assert_eq!(files.search(job, &text).await.unwrap(), expected, "{}", name(job));
        }
    }
}

#[tokio::test]
async fn the_file_of_an_archive_exists_when_it_is_complete_and_a_rewritten_one_replaces_it() {
    for place in places().await {
        let (files, name) = (place.files(), "archive/coupon_event_2027_06-ab.jsonl");
        for content in [Bytes::from_static(b"{}\n"), large(), [large(), large()].concat().into()] {
            let mut writer = files.begin(name, content.len() as u64).await.unwrap();
            for piece in content.chunks(1_000_000) {
                writer.write(piece.to_vec()).await.unwrap();
            }
            writer.finish().await.unwrap();
            let read = place.files().find(name).await.unwrap().unwrap();
            let pieces: Vec<Bytes> = read.try_collect().await.unwrap();
            assert!(pieces.concat() == content);
        }
        let mut aborted = files.begin("archive/b", 1).await.unwrap();
        aborted.write(vec![1]).await.unwrap();
        aborted.abort().await;
        assert!(files.find("archive/b").await.unwrap().is_none());
    }
}

#[tokio::test]
async fn what_is_under_another_prefix_of_the_same_bucket_is_out_of_reach() {
    let bucket = Emulator::get().await.bucket().await;
    let under = |prefix: &str| Files::in_bucket(bucket.client(), bucket.name(), prefix).unwrap();
    let (ours, theirs) = (under("shop/one"), under("shop/one-more"));
    let job = JobId::generate();
    let name = Files::part_name(job, 0);
    theirs.put(&name, "A\n".into()).await.unwrap();
    assert!(ours.get(&name).await.is_err());
    ours.delete_upload(job).await.unwrap();
    assert_eq!(ours.uploads_older_than(TimeDelta::days(-1)).await.unwrap(), []);
    assert_eq!(bucket.names().await, [format!("shop/one-more/uploads/{job}/000000.csv")]);
}

#[tokio::test]
async fn a_folder_is_for_its_owner_alone() {
    let folder = TempDir::new().unwrap();
    let place = folder.path().join("files");
    Files::in_folder(&place).unwrap();
    assert_eq!(place.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

/// A store on a fake S3 server that returns these answers to the first calls and never answers the others.
async fn impostor(answers: &'static [&'static str]) -> Files {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut answers = answers.iter();
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Each request is small enough to arrive in one or two reads.
            let mut head = vec![0; 64 * 1024];
            let _ = stream.read(&mut head).await.unwrap();
            match answers.next() {
                Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                None => open.push(stream),
            }
        }
    });
    Files::in_bucket(TestBucket::client_of(&endpoint), "files", "").unwrap()
}

const BUSY: &str = "HTTP/1.1 503 Slow Down\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const DONE: &str = "HTTP/1.1 200 OK\r\netag: \"1\"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn a_bucket_that_is_busy_for_a_moment_is_asked_again() {
    let files = impostor(&[BUSY, BUSY, DONE]).await;
    files.put("uploads/a", "A\n".into()).await.unwrap();
}

#[tokio::test]
async fn a_bucket_that_is_away_is_an_outage_and_keeps_nobody_waiting_for_long() {
    let begun = Instant::now();
    let (busy, silent) = (impostor(&[BUSY; 20]).await, impostor(&[]).await);
    let nobody = Files::in_bucket(TestBucket::client_of("http://127.0.0.1:1"), "files", "").unwrap();
    let put = async |files: Files| files.put("uploads/a", "A\n".into()).await.unwrap_err().is_retryable();
    assert_eq!(tokio::join!(put(busy), put(silent), put(nobody)), (true, true, true));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
