//! A bucket in the S3 emulator, for one test.

use std::sync::atomic::AtomicU32;

use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;

use crate::Emulator;
use crate::emulator::{http, own_number};

static BUCKETS: AtomicU32 = AtomicU32::new(0);

/// A bucket, accessed without the code under test.
#[derive(Debug)]
pub struct TestBucket {
    endpoint: String,
    name: String,
}

impl Emulator {
    /// A new, empty bucket.
    pub async fn bucket(&self) -> TestBucket {
        self.make_bucket(&format!("files-{}", own_number(&BUCKETS))).await
    }

    /// A bucket with this name.
    pub async fn make_bucket(&self, name: &str) -> TestBucket {
        let answer = http().put(format!("{}/{name}", self.url())).send().await;
        assert!(
            answer.expect("the emulator does not answer").status().is_success(),
            "creating a bucket failed"
        );
        TestBucket { endpoint: self.url().to_owned(), name: name.to_owned() }
    }
}

impl TestBucket {
    /// The URL of the emulator.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A client like that of a program, for any bucket of the emulator.
    pub fn client(&self) -> AmazonS3Builder {
        Self::client_of(&self.endpoint)
    }

    /// The same, through a proxy.
    pub fn client_of(endpoint: &str) -> AmazonS3Builder {
        AmazonS3Builder::new()
            .with_endpoint(endpoint)
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id("test")
            .with_secret_access_key("test")
    }

    /// The names of all objects in the bucket.
    pub async fn names(&self) -> Vec<String> {
        let store = self.client().with_bucket_name(&self.name).build().expect("the bucket has a URL");
        let names = store.list(None).map_ok(|file| file.location.to_string()).try_collect().await;
        let mut names: Vec<String> = names.expect("listing the bucket failed");
        names.sort();
        names
    }
}
