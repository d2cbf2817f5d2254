//! Books, codes and jobs, had the way a client has them.

use cuponera_testkit::eventually;
use cuponera_worker::handlers;
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::client::{Client, Reply};
use super::server::{Server, open};

impl Server {
    /// An active book with these fields on top of a name; its id.
    pub(crate) async fn book(&self, fields: Value) -> String {
        let book = self.draft(fields).await;
        self.admin().patch(&format!("coupon-books/{book}"), json!({"status": "ACTIVE"})).await.expect(200);
        book
    }

    /// The same, not yet active.
    pub(crate) async fn draft(&self, fields: Value) -> String {
        let mut book = json!({"name": "A book"});
        let map = book.as_object_mut().expect("this is an object");
        map.extend(fields.as_object().cloned().unwrap_or_default());
        id_of(&self.admin().post("coupon-books", book).await.expect(201))
    }

    /// Puts these codes into a book; where there is no worker the job is worked here.
    pub(crate) async fn plant(&self, book: &str, codes: &[&str]) {
        let job = self.upload(book, format!("code\n{}", codes.join("\n"))).await.expect(202);
        if !self.limits.worker {
            self.work().await;
        }
        let job = wait_for_job(&self.admin(), &id_of(&job)).await;
        assert_eq!(job["result"]["uploadedCount"], codes.len(), "{job}");
    }

    /// Works all chunks there are.
    pub(crate) async fn work(&self) {
        let (store, files) = (self.database.store(), open(&self.files));
        while let Some(claim) = cuponera_testkit::claim(store, "test").await {
            handlers::handle(store, &files, &claim).await.expect("working a chunk failed");
        }
    }

    /// Uploads a file as the body of the request.
    pub(crate) async fn upload(&self, book: &str, file: impl Into<reqwest::Body>) -> Reply {
        let path = format!("coupon-codes/upload?couponBookId={book}");
        let request = self.admin().request(Method::POST, &path).header("Content-Type", "text/csv");
        Reply::to(request.body(file)).await
    }

    /// How many of its files this process has open.
    pub(crate) fn open_files(&self) -> usize {
        let open = std::fs::read_dir("/proc/self/fd").expect("there is no /proc");
        let paths = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        paths.filter(|path| path.starts_with(self.files.path())).count()
    }

    /// Gives a code to a user.
    pub(crate) async fn give(&self, code: &str, user: &str) {
        self.admin().post(&format!("assignments/{code}"), json!({"userId": user})).await.expect(201);
    }

    /// The codes of a book, all of them.
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

/// The job once it is over.
pub(crate) async fn wait_for_job(client: &Client, id: &str) -> Value {
    eventually("the job to end", async || {
        let job = client.get(&format!("jobs/{id}")).await.expect(200);
        let status = job["status"].as_str().unwrap_or_default().to_owned();
        ["SUCCEEDED", "FAILED", "CANCELLED"].contains(&status.as_str()).then_some(job)
    })
    .await
}

/// The `id` of what was answered.
pub(crate) fn id_of(answer: &Value) -> String {
    answer["id"].as_str().unwrap_or_else(|| panic!("no id in {answer}")).to_owned()
}

/// A form with the file in its field.
pub(crate) fn csv_form(file: impl Into<Vec<u8>>) -> Form {
    Form::new().part("file", Part::bytes(file.into()).file_name("codes.csv"))
}
