//! What the database said of a credential a moment ago: believed for a few seconds, and forgotten at once in this process
//! when it changes here.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cuponera_core::error::Result;
use moka::future::Cache;

/// How long an answer is believed. What was revoked in another process may work as long here; requests that last add the period of
/// their own checks (`credentials::RECHECK`).
const BELIEVED: Duration = Duration::from_secs(3);
/// Callers that are active at the same time; an entry has some 200 bytes.
const REMEMBERED: u64 = 100_000;

/// Answers by what was asked. That there is none is not remembered.
pub(crate) struct Memory<K, V> {
    answers: Cache<K, V>,
    /// How often something was forgotten.
    forgotten: AtomicU64,
}

impl<K, V> Memory<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new() -> Self {
        let answers = Cache::builder().max_capacity(REMEMBERED).time_to_live(BELIEVED).build();
        Self { answers, forgotten: AtomicU64::new(0) }
    }

    /// The answer that is remembered, or the one that `look` gives now.
    pub(crate) async fn find(
        &self,
        key: K,
        look: impl Future<Output = Result<Option<V>>>,
    ) -> Result<Option<V>> {
        if let Some(answer) = self.answers.get(&key).await {
            return Ok(Some(answer));
        }
        let before = self.forgotten.load(Ordering::SeqCst);
        let answer = look.await?;
        if let Some(answer) = &answer {
            self.answers.insert(key.clone(), answer.clone()).await;
            // What was seen may be from before a change that is forgotten by now.
            if self.forgotten.load(Ordering::SeqCst) != before {
                self.answers.invalidate(&key).await;
            }
        }
        Ok(answer)
    }

    /// Forgets one answer; to be called once the change is committed.
    pub(crate) async fn forget(&self, key: &K) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.answers.invalidate(key).await;
    }

    /// Forgets everything; to be called once the change is committed.
    pub(crate) fn forget_all(&self) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.answers.invalidate_all();
    }
}

// By hand: what is remembered is nobody's business.
impl<K, V> fmt::Debug for Memory<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("forgotten", &self.forgotten).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use cuponera_core::error::Error;

    use super::*;

    fn look(answer: Option<&'static str>) -> Ready<Result<Option<&'static str>>> {
        ready(Ok(answer))
    }

    #[tokio::test]
    async fn an_answer_is_remembered_until_all_is_forgotten_and_none_is_never() {
        let memory = Memory::new();
        assert_eq!(memory.find(1, look(None)).await.ok(), Some(None));
        assert_eq!(memory.find(1, look(Some("then"))).await.ok(), Some(Some("then")));
        assert_eq!(memory.find(1, look(Some("now"))).await.ok(), Some(Some("then")));
        memory.forget(&2).await;
        assert_eq!(memory.find(1, look(Some("now"))).await.ok(), Some(Some("then")));
        memory.forget_all();
        assert_eq!(memory.find(1, look(Some("now"))).await.ok(), Some(Some("now")));
        memory.forget(&1).await;
        assert_eq!(memory.find(1, look(Some("later"))).await.ok(), Some(Some("later")));
        let fault = async { Err(Error::internal("away")) };
        assert!(memory.find(2, fault).await.is_err());
    }

    #[tokio::test]
    async fn what_was_seen_before_a_change_is_not_remembered_after_it() {
        let memory = Memory::new();
        let overtaken = async {
            memory.forget_all();
            Ok(Some("then"))
        };
        assert_eq!(memory.find(1, overtaken).await.ok(), Some(Some("then")));
        assert_eq!(memory.find(1, look(Some("now"))).await.ok(), Some(Some("now")));
    }
}
