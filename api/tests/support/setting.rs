//! Creates books, codes and jobs over the API.

use cuponera_testkit::eventually;
use cuponera_worker::handlers;
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::client::{Client, Reply};
use super::server::{Server, open};

impl Server {
    /// Creates an active book with a name and these fields; returns its id.
    pub(crate) async fn book(&self, fields: Value) -> String {
        let book = self.draft(fields).await;
        self.admin().patch(&format!("coupon-books/{book}"), json!({"status": "ACTIVE"})).await.expect(200);
        book
    }

    /// The same, in status `DRAFT`.
    pub(crate) async fn draft(&self, fields: Value) -> String {
        let mut book = json!({"name": "A book"});
        let map = book.as_object_mut().expect("this is an object");
        map.extend(fields.as_object().cloned().unwrap_or_default());
        id_of(&self.admin().post("coupon-books", book).await.expect(201))
    }

    /// Imports these codes into a book. Without a worker, executes the job here.
    pub(crate) async fn plant(&self, book: &str, codes: &[&str]) {
        let job = self.upload(book, format!("code\n{}", codes.join("\n"))).await.expect(202);
        if !self.limits.worker {
            self.work().await;
        }
        let job = wait_for_job(&self.admin(), &id_of(&job)).await;
        assert_eq!(job["result"]["uploadedCount"], codes.len(), "{job}");
    }

    /// Executes all chunks.
    pub(crate) async fn work(&self) {
        let (store, files) = (self.database.store(), open(&self.files));
        while let Some(claim) = cuponera_testkit::claim(store, "test").await {
            handlers::handle(store, &files, &claim).await.expect("a chunk failed");
        }
    }

    /// Uploads a file as the body of the request.
    pub(crate) async fn upload(&self, book: &str, file: impl Into<reqwest::Body>) -> Reply {
        let path = format!("coupon-codes/upload?couponBookId={book}");
        let request = self.admin().request(Method::POST, &path).header("Content-Type", "text/csv");
        Reply::to(request.body(file)).await
    }

    /// The number of the server's files that this process has open.
    pub(crate) fn open_files(&self) -> usize {
        let open = std::fs::read_dir("/proc/self/fd").expect("cannot read /proc/self/fd");
        let paths = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        paths.filter(|path| path.starts_with(self.files.path())).count()
    }

    /// Assigns a code to a user.
    pub(crate) async fn give(&self, code: &str, user: &str) {
        self.admin().post(&format!("assignments/{code}"), json!({"userId": user})).await.expect(201);
    }

    /// All codes of a book.
    pub(crate) async fn codes(&self, book: &str) -> Vec<Value> {
        let (mut codes, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("coupon-codes/book/{book}?limit=500{cursor}");
            let page = self.admin().get(&path).await.expect(200);
            codes.extend(page["data"].as_array().cloned().unwrap_or_default());
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return codes,
            }
        }
    }
}

/// Waits until the job has ended; returns it.
pub(crate) async fn wait_for_job(client: &Client, id: &str) -> Value {
    eventually("the job to end", async || {
        let job = client.get(&format!("jobs/{id}")).await.expect(200);
        let status = job["status"].as_str().unwrap_or_default().to_owned();
        ["SUCCEEDED", "FAILED", "CANCELLED"].contains(&status.as_str()).then_some(job)
    })
    .await
}

/// The `id` in an answer.
pub(crate) fn id_of(answer: &Value) -> String {
    answer["id"].as_str().unwrap_or_else(|| panic!("no id in {answer}")).to_owned()
}

/// A form with the file.
pub(crate) fn csv_form(file: impl Into<Vec<u8>>) -> Form {
    Form::new().part("file", Part::bytes(file.into()).file_name("codes.csv"))
}
